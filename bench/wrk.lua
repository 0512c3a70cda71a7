-- For wrk: sends back one of the cookies given (as browsers do that have been here before), in turn, and prints the
-- figures as one line of JSON. Arguments after `--`: any number of Cookie values.
local requests, turn = {}, 0

function init(arguments)
  for number = 1, #arguments do
    wrk.headers["Cookie"] = arguments[number]
    requests[number] = wrk.format()
  end
  if #arguments == 0 then
    requests[1] = wrk.format()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
