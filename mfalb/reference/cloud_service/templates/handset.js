// Reloads the page when there is something new, and never while somebody types.
"use strict";
setInterval(async () => {
  const fields = [...document.querySelectorAll("input[name=typed]")];
  if (document.hidden || fields.some((field) => field.value || field === document.activeElement)) return;
  try {
    const told = await (await fetch(document.body.dataset.url)).json();
    if (told.state !== document.body.dataset.state) location.reload();
  } catch { /* the service is away: the page stays as it is */ }
}, 1000);
