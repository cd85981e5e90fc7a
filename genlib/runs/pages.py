"""Pages in HTML from ``templates/``: what they are given is escaped, and they run no script."""

import base64
from functools import cache


def render(template, **values):
    """Fill in a template of this package. Returns its HTML."""
    return _environment().get_template(template).render(values)


@cache
def _environment():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("genlib.runs"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    return environment
