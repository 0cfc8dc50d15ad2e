"""One row on two sides, in rounds: may this release go out?"""
