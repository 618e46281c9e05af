# SPDX-License-Identifier: MIT
#
# fragment.py write|verify DISK PAGES: fill PAGES pages with data that compresses about 2:1 and overwrite three of
# four, at random, with zeroes, which leaves the store full of holes; or verify that this is what DISK holds.

import hashlib
import os
import random
import sys

PAGE = 4096


def content(page):
    half = hashlib.shake_128(str(page).encode()).digest(PAGE // 2)
    return half + bytes(PAGE // 2)


action, disk, pages = sys.argv[1], os.open(sys.argv[2], os.O_RDWR), int(sys.argv[3])
kept = set(random.Random(1).sample(range(pages), pages // 4))
if action == "write":
    for page in range(pages):
        os.pwrite(disk, content(page), page * PAGE)
    for page in range(pages):
        if page not in kept:
            os.pwrite(disk, bytes(PAGE), page * PAGE)
else:
    for page in range(pages):
        if os.pread(disk, PAGE, page * PAGE) != (content(page) if page in kept else bytes(PAGE)):
            sys.exit(f"page {page} is wrong")
