"""The command line reference, made from the parsers of the commands."""

from __future__ import annotations

import argparse
import html
from importlib import import_module

from codeczoo.cli import COMMANDS
from codeczoo.cli.arguments import Parser
from scripts.docs_site.text import plain, table

WIDTH = 100  # of a usage line


def pages() -> dict[str, str]:
    """Path → Markdown, a page a command."""
    rows = [[f"[`codeczoo {name}`]({name}.md)", plain(line)] for name, (_, line) in COMMANDS.items()]
    index = (
        "# Command line\n\n`codeczoo COMMAND --help` says the same as these pages, which are made from it. "
        "`python -m codeczoo` is the same program, and `python benchmarking.py` is `codeczoo benchmark`.\n\n"
        f"{table(['command', 'what it does'], rows)}\n\n"
        "Exit codes: 0 success; 1 wrong usage, or something is missing; 3 some clips failed, each is named; "
        "4 no clip failed, but a metric is undefined on one (`benchmark`); 130 stopped by Ctrl-C or a closed pipe.\n"
    )
    return {"commands/index.md": index, **{f"commands/{name}.md": page(name) for name in COMMANDS}}


def page(name: str) -> str:
    """The page of one command: usage, what it is, its options by group, its examples."""
    parser = Parser(prog=f"codeczoo {name}")
    import_module(COMMANDS[name][0]).add_arguments(parser)
    formatter = argparse.HelpFormatter(parser.prog, width=WIDTH)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    usage = formatter.format_help().removeprefix("usage: ").strip()
    parts = [f"# codeczoo {name}", plain(parser.description or COMMANDS[name][1]), f"```text\n{usage}\n```"]
    for group in parser._action_groups:
        rows = [
            [_names(action), plain(formatter._expand_help(action)) if action.help else ""]
            for action in group._group_actions
            if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction)
        ]
        if rows:
            head = "argument" if group.title == "positional arguments" else "option"
            parts += [f"## {(group.title or 'options').capitalize()}", table([head, "what it says"], rows)]
    if parser.epilog:
        epilog = parser.epilog.replace("%(prog)s", parser.prog).replace("%%", "%").strip()
        parts += ["## Examples and notes", f"<pre><code>{html.escape(epilog)}</code></pre>"]
    return "\n\n".join(parts) + "\n"


def _names(action: argparse.Action) -> str:
    """`-o OUT`, `--out OUT`, as code."""
    value = ""
    if action.nargs != 0:
        value = action.metavar if isinstance(action.metavar, str) else ""
        if not value and action.choices is not None:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        value = value or action.dest.upper()
        value = {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} ..."}.get(str(action.nargs), value)
    if not action.option_strings:
        return f"<code>{html.escape(value).replace('|', '&#124;')}</code>"
    names = ", ".join(action.option_strings)
    return f"<code>{html.escape(f'{names} {value}'.strip()).replace('|', '&#124;')}</code>"
