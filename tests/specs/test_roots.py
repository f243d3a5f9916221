"""A name stays inside its root, whatever it is made of."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.specs.roots import OutsideRoot, inside, meets


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    (root / "tiny").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "models-of-another").mkdir()
    return root


@pytest.mark.parametrize("name", ["tiny", "tiny/", "./tiny", "tiny/../tiny", "not/there/yet", "", ".", "...", "a..b", "..tiny"])
def test_a_name_inside_is_a_path_inside(root: Path, name: str) -> None:
    path = inside(root, name)
    assert path.is_absolute()
    assert path.is_relative_to(root.resolve())


def test_a_name_is_the_path_it_says(root: Path) -> None:
    assert inside(root, "tiny") == root.resolve() / "tiny"


@pytest.mark.parametrize(
    "name", ["..", "../secret", "tiny/../../secret", "tiny/../..", "./../secret", "../models-of-another", "not/../../secret"]
)
def test_a_name_that_climbs_out_is_refused(root: Path, name: str) -> None:
    with pytest.raises(OutsideRoot, match="leaves its folder"):
        inside(root, name)


def test_an_absolute_path_is_refused_even_where_it_points_inside(root: Path) -> None:
    with pytest.raises(OutsideRoot):
        inside(root, "/etc/passwd")
    with pytest.raises(OutsideRoot):
        inside(root, str(root / "tiny"))


@pytest.mark.parametrize("name", ["\0", "tiny\0", "tiny\0/../../secret"])
def test_a_null_byte_is_refused(root: Path, name: str) -> None:
    with pytest.raises(OutsideRoot, match="null byte"):
        inside(root, name)


def test_a_link_that_leaves_is_refused_and_so_is_what_lies_behind_it(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    (root / "up").symlink_to("..")
    for name in ("out", "out/key", "up", "up/secret", "tiny/../out"):
        with pytest.raises(OutsideRoot):
            inside(root, name)


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    (root / "alias").symlink_to(root / "tiny")
    assert inside(root, "alias") == root.resolve() / "tiny"


def test_a_root_that_is_itself_a_link_holds_its_own_names(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert inside(link, "tiny") == root.resolve() / "tiny"


def test_a_link_to_itself_is_refused(root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(OutsideRoot):
        inside(root, "loop/x")


@pytest.mark.parametrize("name", ["x" * 10_000, "\ud800"])
def test_a_name_that_no_file_can_have_is_refused(root: Path, name: str) -> None:
    with pytest.raises(OutsideRoot):
        inside(root, name)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "~", "secret", "\0", " ", "..."]), max_size=6).map("/".join))
def test_whatever_the_name_it_is_inside_or_refused(name: str) -> None:
    root = Path("models")
    try:
        path = inside(root, name)
    except OutsideRoot:
        return
    assert path.is_relative_to(root.resolve())


def test_folders_meet_where_one_lies_in_the_other(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    tiny = root / "tiny"
    assert all(meets(one, [other]) for one in (root, tiny, root.parent / "link") for other in (root, tiny, root.parent / "link"))
    assert not meets(root, [])
    assert not meets(root, [root.parent / "secret", root.parent / "models-of-another"])
