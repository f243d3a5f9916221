"""Benchmarks as they lie in folders: what is read of them, and what is said of one that cannot be used."""

import csv
import io
import json
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from service.specs import benchmark_files
from service.specs.benchmark import Question, open_benchmark
from service.specs.benchmark_files import BenchmarkError

HEAD = ["question", "A", "B", "C", "D", "answer"]
ROW = ["2 + 2?", "3", "4", "5", "6", "B"]
PLACES = {"dev": ("dev", "_dev"), "validation": ("val", "_val"), "test": ("test", "_test")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects, each with a row in every split."""
    write_mapping(tmp_path, sums={"name": "sums", "category": "STEM"}, tales={"name": "tales", "category": "Humanities"})
    for subject in ("sums", "tales"):
        for split in PLACES:
            write(tmp_path, subject, split, [HEAD, ROW])
    return tmp_path


def write_mapping(folder: Path, **subjects: Any) -> None:
    (folder / "mapping.json").write_text(json.dumps(subjects), encoding="utf-8")


def write(folder: Path, subject: str, split: str, rows: list[list[str]]) -> None:
    place, suffix = PLACES[split]
    (folder / place).mkdir(exist_ok=True)
    with (folder / place / f"{subject}{suffix}.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def opened(folder: Path, split: Any = None, with_examples: bool = True) -> Any:
    return open_benchmark(folder, split, with_examples)


def refused(folder: Path, split: Any = None) -> BenchmarkError:
    with pytest.raises(BenchmarkError) as error:
        opened(folder, split)
    return error.value


def test_the_subjects_stand_in_the_mappings_order_with_their_questions(folder: Path) -> None:
    benchmark = opened(folder)
    assert [(one.key, one.name, one.category) for one in benchmark.subjects] == [
        ("sums", "sums", "STEM"),
        ("tales", "tales", "Humanities"),
    ]
    assert benchmark.split == "test"
    assert benchmark.questions(benchmark.subjects[0]) == (Question(1, "2 + 2?", ("3", "4", "5", "6"), "B"),)


@pytest.mark.parametrize(
    ("rows", "question"),
    [
        pytest.param([ROW], Question(1, "2 + 2?", ("3", "4", "5", "6"), "B"), id="mmlu: no line of names"),
        pytest.param(
            [["id", *HEAD, "explanation"], ["0", *ROW, "one counts"]],
            Question(1, "2 + 2?", ("3", "4", "5", "6"), "B"),
            id="ceval",
        ),
        pytest.param(
            [["", "Question", "A", "B", "C", "D", "Answer"], ["0", *ROW]],
            Question(1, "2 + 2?", ("3", "4", "5", "6"), "B"),
            id="cmmlu",
        ),
        pytest.param(
            [["question, said\nin two lines", " a", "b ", "c", "d", "D "]],
            Question(1, "question, said\nin two lines", ("a", "b", "c", "d"), "D"),
            id="commas, lines and spaces",
        ),
    ],
)
def test_the_three_layouts_are_read(folder: Path, rows: list[list[str]], question: Question) -> None:
    write(folder, "sums", "test", rows)
    benchmark = opened(folder)
    assert benchmark.questions(benchmark.subjects[0]) == (question,)


def test_a_test_that_keeps_its_answers_leaves_the_validation_part(folder: Path) -> None:
    for subject in ("sums", "tales"):
        write(folder, subject, "test", [["id", *HEAD[:-1]], ["0", *ROW[:-1]]])
    assert opened(folder).split == "validation"
    error = refused(folder, "test")
    assert "test/sums_test.csv, row 1 has no answer" in str(error)
    assert "split: validation" in str(error)


def test_a_task_without_a_test_leaves_the_validation_part(folder: Path) -> None:
    for file in (folder / "test").iterdir():
        file.unlink()
    assert opened(folder).split == "validation"


def test_a_file_that_changed_is_read_again(folder: Path) -> None:
    assert opened(folder).questions(opened(folder).subjects[0])[0].answer == "B"
    write(folder, "sums", "test", [HEAD, [*ROW[:-1], "C"], ROW])
    assert [question.answer for question in opened(folder).questions(opened(folder).subjects[0])] == ["C", "B"]


BAD_ROWS = [
    pytest.param([HEAD[:-1], ROW[:-1]], {"row": 1, "column": "answer"}, "has no answer", id="no column answer"),
    pytest.param([ROW[:-1]], {"row": 1, "column": "answer"}, "the answer is missing", id="no sixth cell"),
    pytest.param([HEAD, ROW, [*ROW[:-1], "E"]], {"row": 2, "column": "answer"}, "none of A, B, C, D", id="E is right"),
    pytest.param([HEAD, [*ROW[:-1], "b"]], {"row": 1, "column": "answer"}, "none of A, B, C, D", id="a small letter"),
    pytest.param([HEAD, [*ROW[:-1], ""], ROW], {"row": 1, "column": "answer"}, "has no answer", id="an answer left out"),
    pytest.param([[*HEAD[:-1], "E", "answer"], [*ROW[:-1], "7", "B"]], {"column": "E"}, "the choices A to D", id="a column E"),
    pytest.param([ROW, [*ROW[:-1], "7", "B"]], {"row": 2, "column": "E"}, "has 7 cells", id="a fifth choice"),
    pytest.param([HEAD, ["", *ROW[1:]]], {"row": 1, "column": "question"}, "nothing in the column question", id="no question"),
    pytest.param([HEAD, [*ROW[:3], " ", *ROW[4:]]], {"row": 1, "column": "C"}, "nothing in the column C", id="no third choice"),
    pytest.param([["question", "A", "B", "C", "answer"], ROW], {"column": "D"}, "has no column D", id="three choices"),
    pytest.param([[*HEAD, "answer"], [*ROW, "B"]], {"column": "answer"}, "several columns answer", id="two answers"),
    pytest.param([[*HEAD, "source"], [*ROW, "a book"]], {"column": "source"}, "has a column source", id="another column"),
    pytest.param([HEAD], {}, "holds no questions", id="no row"),
    pytest.param([], {}, "holds no questions", id="nothing"),
]


@pytest.mark.parametrize(("rows", "where", "sentence"), BAD_ROWS)
def test_a_bad_row_is_named_with_its_file_row_and_column(folder: Path, rows: Any, where: dict[str, Any], sentence: str) -> None:
    write(folder, "tales", "test", rows)
    error = refused(folder, "test")
    assert error.where == {"file": "test/tales_test.csv", **where}
    assert "test/tales_test.csv" in str(error)
    assert sentence in str(error)


def test_what_is_no_csv_and_no_text_is_named_with_its_line(folder: Path) -> None:
    file = folder / "test" / "sums_test.csv"
    file.write_text('question,A,B,C,D,answer\n"2 + 2?",3,4,5,6,B\n"no end,3,4,5,6,B\n', encoding="utf-8")
    assert refused(folder).where["row"] == 2
    file.write_bytes(b"question,A,B,C,D,answer\n\xff,3,4,5,6,B\n")
    assert refused(folder).where == {"file": "test/sums_test.csv", "line": 2}


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ("{}", "names no subjects"),
        ("[]", "names no subjects"),
        ("{", "not valid JSON"),
        ('{"sums": {"category": "STEM"}}', "has no name"),
        ('{"sums": "sums"}', "has no name"),
        ('{"sums": {"name": "sums", "category": "Numbers"}}', "there are STEM, Social Sciences, Humanities, Other"),
        ('{"../sums": {"name": "sums", "category": "STEM"}}', "no subject's name"),
        ('{"Other": {"name": "sums", "category": "STEM"}}', "no category"),
    ],
)
def test_a_mapping_that_says_too_little_is_refused(folder: Path, mapping: str, sentence: str) -> None:
    (folder / "mapping.json").write_text(mapping, encoding="utf-8")
    assert sentence in str(refused(folder))


def test_a_folder_without_a_mapping_is_no_task(tmp_path: Path) -> None:
    assert refused(tmp_path).where == {"file": "mapping.json"}


def test_a_file_of_no_subject_and_a_subject_of_no_file_are_named(folder: Path) -> None:
    write(folder, "songs", "test", [HEAD, ROW])
    assert refused(folder).where == {"file": "test/songs_test.csv"}
    (folder / "test" / "songs_test.csv").unlink()
    (folder / "test" / "tales_test.csv").unlink()
    error = refused(folder)
    assert error.where == {"file": "test/tales_test.csv"}
    assert "which the subject 'tales'" in str(error)


def test_examples_are_needed_only_where_some_are_shown(folder: Path) -> None:
    (folder / "dev" / "sums_dev.csv").unlink()
    assert refused(folder).where == {"file": "dev/sums_dev.csv"}
    assert opened(folder, with_examples=False).split == "test"


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.csv"
    elsewhere.write_text("2 + 2?,3,4,5,6,B\n")
    file = folder / "test" / "sums_test.csv"
    file.unlink()
    file.symlink_to(elsewhere)
    assert refused(folder).where == {"file": "test/sums_test.csv"}


# -- in archives ---------------------------------------------------------------------------------------------------------

ARCHIVES = {"mmlu": ("data/", True), "ceval": ("", True), "cmmlu": ("", False), "in a folder of its own": ("task/data/", True)}


def as_csv(*rows: list[str]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


def archived(
    folder: Path, above: str = "data/", with_suffix: bool = True, more: Mapping[Any, bytes] = MappingProxyType({})
) -> Path:
    """The task with its files in an archive, as hubs have it."""
    with zipfile.ZipFile(folder / f"{folder.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for place, suffix in PLACES.values():
            for file in sorted((folder / place).glob("*.csv")):
                stem = file.stem if with_suffix else file.stem.removesuffix(suffix)
                archive.writestr(f"{above}{place}/{stem}.csv", file.read_bytes())
            shutil.rmtree(folder / place)
        for name, content in more.items():
            archive.writestr(name, content)
    return folder / f"{folder.name}.zip"


@pytest.mark.parametrize("layout", ARCHIVES)
def test_an_archive_is_read_as_its_folder_would_be(folder: Path, layout: str) -> None:
    as_folder = opened(folder)
    expected = [as_folder.questions(subject) + as_folder.examples(subject) for subject in as_folder.subjects]
    archived(folder, *ARCHIVES[layout], {"README.txt": b"of somebody", "__MACOSX/data/test/._sums_test.csv": b"\0"})
    benchmark = opened(folder)
    assert [benchmark.questions(subject) + benchmark.examples(subject) for subject in benchmark.subjects] == expected
    assert benchmark.split == "test"
    assert sorted(path.name for path in folder.iterdir()) == sorted(["mapping.json", f"{folder.name}.zip"]), "nothing is unpacked"


def test_files_of_cmmlu_are_called_by_their_subject_alone(folder: Path) -> None:
    for place, suffix in PLACES.values():
        for file in (folder / place).iterdir():
            file.rename(file.with_name(f"{file.stem.removesuffix(suffix)}.csv"))
    assert opened(folder).questions(opened(folder).subjects[0])[0].answer == "B"


def test_what_is_unpacked_goes_before_its_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / f"{folder.name}.zip", "w") as archive:
        archive.writestr("data/test/sums_test.csv", as_csv(HEAD, [*ROW[:-1], "C"]))
    assert opened(folder).questions(opened(folder).subjects[0])[0].answer == "B"


def test_an_archive_that_changed_is_read_again(folder: Path) -> None:
    file = archived(folder)
    assert len(opened(folder).questions(opened(folder).subjects[0])) == 1
    with zipfile.ZipFile(file, "w") as archive:
        for subject in ("sums", "tales"):
            for place, suffix in PLACES.values():
                archive.writestr(f"{place}/{subject}{suffix}.csv", as_csv(HEAD, ROW, ROW))
    assert len(opened(folder).questions(opened(folder).subjects[0])) == 2


def test_a_bad_row_in_an_archive_is_named_as_one_in_a_folder_is(folder: Path) -> None:
    write(folder, "tales", "test", [HEAD, ROW, [*ROW[:-1], "E"]])
    file = archived(folder)
    assert refused(folder).where == {"file": f"{file.name}/data/test/tales_test.csv", "row": 2, "column": "answer"}


def test_an_archive_that_lacks_a_file_or_has_one_of_no_subject_is_refused(folder: Path) -> None:
    (folder / "test" / "tales_test.csv").unlink()
    archived(folder)
    assert "test/tales_test.csv, which the subject 'tales'" in str(refused(folder))


A_LINK = zipfile.ZipInfo("data/test/sums_test.csv")
A_LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("../../test/sums_test.csv", "leads out of it"),
        ("data/../../test/sums_test.csv", "leads out of it"),
        ("/etc/test/sums_test.csv", "leads out of it"),
        ("C:/test/sums_test.csv", "leads out of it"),
        ("data\\..\\test\\sums_test.csv", "leads out of it"),
        ("../notes.txt", "leads out of it"),
        (A_LINK, "which is a link"),
        ("other/test/sums_test.csv", "several tasks, in data/ and in other/"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_would_write_elsewhere_is_not_read(folder: Path, entry: Any, sentence: str) -> None:
    file = archived(folder, more={entry: as_csv(HEAD, ROW)})
    error = refused(folder)
    assert sentence in str(error)
    assert error.where == {"file": file.name}


@pytest.mark.parametrize(
    ("limit", "most", "sentence"),
    [
        ("MOST_FILE_BYTES", 10**6, "would be 30 MB, and 1 MB are"),
        ("MOST_BYTES", 10**6, "would be 30 MB"),
        ("MOST_FILES", 6, "holds 7 files"),
    ],
)
def test_a_bomb_is_seen_before_any_of_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, sentence: str
) -> None:
    archived(folder, more={"data/test/bomb.csv": b"0" * 30_000_000})
    monkeypatch.setattr(benchmark_files, limit, most)
    monkeypatch.setattr(benchmark_files, "_member", lambda *what: pytest.fail("it was read"))
    assert sentence in str(refused(folder))


def test_an_entry_is_never_read_beyond_what_it_says_it_holds(folder: Path) -> None:
    """A bomb may lie of its size."""
    write(folder, "sums", "test", [HEAD, *[ROW] * 200_000])
    file = archived(folder)
    whole = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("data/test/sums_test.csv")
    assert entry.file_size > 2_000_000
    at = whole.rindex(b"data/test/sums_test.csv") - 46  # its row of the list at the end, where the size stands 24 bytes on
    whole[at + 24 : at + 28] = (100).to_bytes(4, "little")
    file.write_bytes(bytes(whole))
    error = refused(folder, "test")
    assert "is damaged" in str(error)


def test_an_archive_that_is_damaged_is_named(folder: Path) -> None:
    file = archived(folder)
    whole = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        at = archive.getinfo("data/test/sums_test.csv").header_offset + 60
    whole[at : at + 8] = bytes(8)
    file.write_bytes(bytes(whole))
    assert refused(folder, "test").where == {"file": f"{file.name}/data/test/sums_test.csv"}
    file.write_bytes(b"no archive")
    assert "no zip archive that can be read" in str(refused(folder))


def test_a_link_to_an_archive_elsewhere_is_not_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = archived(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "quiz.zip"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    assert "There is no file" in str(refused(folder))
