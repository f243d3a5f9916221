"""`python -m service.cli` is `finebits`."""

from service.cli.main import app

app(prog_name="finebits")
