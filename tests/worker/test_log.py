import subprocess
import sys

from worker import log

WRITE = """
import os, sys
from pathlib import Path
from worker import log
file = Path(sys.argv[1])
log.speak_into(file)
for number in range(2000):
    print(f"line {number:04}")
    if number % 100 == 0:
        log.trim(file, most_bytes=4000)
os.write(2, b"from below\\n")
"""


def test_a_log_of_lines_keeps_its_beginning_and_its_end_and_says_that_some_are_left_out(tmp_path):
    file = tmp_path / "log.txt"
    file.write_text("".join(f"line {number:04}\n" for number in range(1000)))
    log.trim(file, most_bytes=4000)
    lines = file.read_text().splitlines()
    assert lines[0] == "line 0000"
    assert lines[-1] == "line 0999"
    cut = lines.index(log.LEFT_OUT.decode().strip())
    kept = [int(line.split()[1]) for line in lines if line.startswith("line")]
    assert kept == [*range(cut), *range(1000 - (len(kept) - cut), 1000)]
    assert 1500 < file.stat().st_size <= 2000 + len(log.LEFT_OUT)


def test_a_short_log_stays_as_it_is(tmp_path):
    file = tmp_path / "log.txt"
    file.write_bytes(b"x" * 4000)
    log.trim(file, most_bytes=4000)
    assert file.read_bytes() == b"x" * 4000


def test_a_log_of_one_endless_line_is_cut_too(tmp_path):
    file = tmp_path / "log.txt"
    file.write_bytes(b"x" * 100_000)
    log.trim(file, most_bytes=4000)
    assert file.stat().st_size <= 2000 + len(log.LEFT_OUT)


def test_a_process_that_is_still_writing_goes_on_at_the_end(tmp_path):
    file = tmp_path / "log.txt"
    subprocess.run([sys.executable, "-c", WRITE, str(file)], check=True)
    lines = file.read_text().splitlines()
    assert lines[0] == "line 0000"
    assert lines[-2:] == ["line 1999", "from below"]
    assert lines.count(log.LEFT_OUT.decode().strip()) == 1
    assert file.stat().st_size < 5000


def test_a_log_that_is_not_there_yet_is_no_matter(tmp_path):
    log.trim(tmp_path / "nowhere" / "log.txt")
