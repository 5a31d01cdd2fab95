"""How a runtime is started, read and stopped.

process.py       local processes: what the engine uses
warden.py        the gateway's end of the lifeline to the warden
warden_main.py   the warden: a small process of its own that starts all others and survives none of them
lines.py         reading lines of any length from a pipe
sandbox.py       the same processes inside bubblewrap
relay.py         what stands in for the network in a sandbox that has none
container.py     a command in a container, with a process's interface
frames.py        the connection to it
sidecar.py       a container beside it, by which it reaches sockets of the gateway's and nothing else
home.py          the files and the environment a child is given
"""
