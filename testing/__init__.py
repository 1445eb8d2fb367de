"""What the tests of all packages share: tiers, limits, waiting, ports, tools of the machine."""
