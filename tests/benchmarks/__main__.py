"""How fast the course trains and draws, beside published recipes: ``make bench``.

``python tests/benchmarks [--rounds 5] [--all]`` times each pair in turn, after a round that
compiles, and prints a Markdown table: medians, the median ratio, its least and its greatest.
``--all`` adds the studies of what each choice of lessons 06 and 09 buys, which take an hour and
need MNIST and Shakespeare.
"""

import argparse

import diffusion_choices
import gan_throughput
import gpt_choices
import gpt_speed
import vae_throughput
from pairs import HEAD


def main():
    parser = argparse.ArgumentParser(description="How fast the course is beside published recipes.")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each pair")
    parser.add_argument("--all", action="store_true", help="the studies of single choices too")
    options = parser.parse_args()
    print(HEAD)
    for module in (gan_throughput, vae_throughput, gpt_speed):
        for pair in module.pairs():
            print(pair.row(options.rounds), flush=True)
    print(gpt_speed.learn())
    if options.all:
        for study in (diffusion_choices, gpt_choices):
            print()
            study.main()


if __name__ == "__main__":
    main()
