"""How far many runs are: a live line in a terminal; elsewhere some twenty lines in all."""

import io
import sys

from tqdm import tqdm


class Progress:
    """A bar of ``total`` things of which ``done`` are done. shown: False says nothing at all.

    A failure is a line of its own, on stdout, with its reason.
    """

    def __init__(self, title, things, total, done=0, shown=True):
        self.live, self.shown, self.failed = shown and sys.stderr.isatty(), shown, 0
        self.every = max(1, (total - done) // 20)
        self.bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            file=sys.stderr if self.live else io.StringIO(),
            bar_format=f"{{desc}}: {{n_fmt}} of {{total_fmt}} {things}{{postfix}}, "
            "about {remaining} left",
        )

    def now(self, names):
        """Say which of them run now."""
        failed = [f"{self.failed} failed"] * (self.failed > 0)
        self.bar.set_postfix_str(", ".join([*failed, *names]), refresh=self.live)

    def tell(self, name, error, now=()):
        """One has ended; error: why it failed, "" where it did not. now: those that run."""
        self.failed += bool(error)
        self.now(now)
        self.bar.update(1)
        if self.shown and error:
            self.bar.write(f"✗ {name}: {error}", file=sys.stdout)
        if self.shown and not self.live and self.bar.n % self.every == 0:
            print(self.bar, flush=True)

    def close(self):
        """Leave the bar as it is."""
        self.bar.close()
