"""What a fleet asks of an object store: many workers share many cells, in simulated time.

Each worker is a thread with a working copy and a connection of its own. It claims cells, stores
them, waits and writes the report by the code of a real run. Only computing is replaced: by sleeping
until a clock says so that moves on when all workers sleep. One worker runs at a time, so equal
fleets take equal steps. Every request costs time on that clock, so workers list, create and read in
between each other's requests. Some workers die in the middle of a cell.

The store is a real server, moto on loopback, or a dictionary. Both count the same requests.
"""
