"""The subcommands of ``ddpm-shortcut``: one module each, imported when it runs; their options are in `options`."""
