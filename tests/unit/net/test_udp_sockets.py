from __future__ import annotations

import pytest

from mfalb.net.udp_sockets import drops_in_table

# /proc/net/udp of a Linux 6.1, blanks and all
TABLE = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  451: 0100007F:0143 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 21408 2 0000000000000000 0
 1842: 00000000:0714 00000000:0000 07 00000000:00034100 00:00000000 00000000   999        0 51966 2 0000000000000000 196
"""


@pytest.mark.parametrize(("inode", "drops"), [(21408, 0), (51966, 196), (999, 0), (2, 0)])
def test_the_kernels_table_tells_a_sockets_drops_by_its_inode(inode: int, drops: int) -> None:
    assert drops_in_table(TABLE, inode) == drops
