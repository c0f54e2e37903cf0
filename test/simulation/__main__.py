"""Run the simulation: python -m simulation, or make simulate.

    --seeds N --from K     N seeds, beginning with K
    --seed K               one seed, with its history
    --pairs [all]          every single fault and every pair of faults of one order with a key, committed and aborted; all: the same
                           of an order without a key, too
    --mutants [NAME ...]   every hand-made bug must be found within 5,000 seeds
    --mutant NAME          the seeds, in a program with this bug

Exits with 1 if a law was broken; or, with --mutants, if a bug was not found.
"""

import argparse
import sys

from simulation import mutants

#: Without a number: enough for a look.
SEEDS = 2000


def main() -> int:
    """Do what the arguments ask for, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="simulation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, metavar="N")
    parser.add_argument("--from", type=int, default=0, metavar="K", dest="first")
    parser.add_argument("--seed", type=int, metavar="K")
    parser.add_argument("--pairs", nargs="?", const="keyed", choices=("keyed", "all"))
    parser.add_argument("--mutants", nargs="*", metavar="NAME")
    parser.add_argument("--mutant", choices=sorted(mutants.MUTANTS), metavar="NAME")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    arguments = parser.parse_args()
    if arguments.mutants is not None:
        return mutants.hunted(
            arguments.mutants or list(mutants.MUTANTS),
            arguments.seeds or mutants.SEEDS_MAX,
            arguments.processes,
        )
    if arguments.mutant:
        mutants.install(arguments.mutant)
    # Not before a mutant is in place.
    from simulation import console

    if arguments.seed is not None:
        return console.told(arguments.seed)
    if arguments.mutant:
        return console.searched(arguments.first, arguments.seeds or mutants.SEEDS_MAX)
    if arguments.pairs:
        return console.paired(arguments.processes, keyed=arguments.pairs == "keyed")
    return console.run(arguments.first, arguments.seeds or SEEDS, arguments.processes)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
