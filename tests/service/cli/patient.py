"""`python -m tests.service.cli.patient`: the command line, but that who presses Tab waits for as long as a busy machine takes."""

from service.cli import job_id
from service.cli.main import app

job_id.PATIENCE_SECONDS = 60.0

if __name__ == "__main__":
    app(prog_name="finebits")
