"""How large the site-packages of both images are: what the service needs, and what the worker needs beside it.

    python benchmarks/image_sizes.py

Walks the requirements of this installation, of finebits alone and of finebits[worker], and adds up the files that pip recorded.
A GPU host's torch brings CUDA's libraries, some gigabytes more than the CPU build that may be installed here.
"""

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

SHOWN = 8


def main() -> None:
    service, worker = closure("finebits", frozenset()), closure("finebits", frozenset({"worker"}))
    for name, packages in (("service", service), ("worker", worker)):
        sizes = sorted(((bytes_of(package), package.name) for package in packages.values()), reverse=True)
        largest = ", ".join(f"{package} {told(size)}" for size, package in sizes[:SHOWN])
        print(f"{name:8} {len(sizes):4} packages {told(sum(size for size, _ in sizes)):>9}   {largest}")
    ratio = sum(map(bytes_of, worker.values())) / sum(map(bytes_of, service.values()))
    print(f"worker / service: {ratio:.1f}")
    print(f"torch in the service's image: {'yes' if 'torch' in service else 'no'}")


def closure(name: str, extras: frozenset[str]) -> dict[str, Distribution]:
    """Every distribution that one of that name needs here, itself left out: its files are the image's own."""
    found: dict[str, Distribution] = {}
    todo, seen = [(name, extras)], set()
    while todo:
        wanted, wanted_extras = todo.pop()
        if (wanted, wanted_extras) in seen:
            continue
        seen.add((wanted, wanted_extras))
        try:
            package = distribution(wanted)
        except PackageNotFoundError:
            continue  # a requirement of another platform's
        if wanted != name:
            found[wanted] = package
        for line in package.requires or ():
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in (*wanted_extras, "")]
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                todo.append((canonical(requirement.name), frozenset(requirement.extras)))
    return found


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def bytes_of(package: Distribution) -> int:
    paths = (Path(str(package.locate_file(file))) for file in package.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def told(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


if __name__ == "__main__":
    main()
