"""Writes the example data that is not sampled from the source: `instructions.json`, `preferences.json` and `primer.txt`.

    python examples/make_texts.py [examples/data]

The instructions are small enough for a model of half a million parameters to learn a part of. The primer is what the example
model is pretrained on: plain sentences and question-and-answer lines over the same words, so that it begins with some English.
The same files come out each time. Standard library only.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

RECORDS_A_KIND = 50
PRIMER_LINES = 2000

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PLURALS = {
    "dog": "dogs", "cat": "cats", "bird": "birds", "boat": "boats", "tree": "trees", "house": "houses", "river": "rivers",
    "fox": "foxes", "box": "boxes", "dish": "dishes", "bus": "buses", "baby": "babies", "city": "cities", "story": "stories",
    "child": "children", "mouse": "mice", "foot": "feet", "leaf": "leaves", "wolf": "wolves", "sheep": "sheep",
}  # fmt: skip
COLOURS = {
    "grass": "green", "snow": "white", "coal": "black", "the sky": "blue", "a lemon": "yellow", "a tomato": "red",
    "a carrot": "orange", "milk": "white", "a banana": "yellow", "the sea": "blue", "a frog": "green", "a raven": "black",
    "chocolate": "brown", "a strawberry": "red", "a plum": "purple", "an elephant": "grey", "a leaf": "green",
    "the night": "black",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "old": "young", "day": "night", "up": "down", "left": "right", "open": "closed",
    "dark": "bright", "happy": "sad", "loud": "quiet", "wet": "dry", "full": "empty", "near": "far", "first": "last",
    "high": "low", "long": "short", "early": "late", "rich": "poor", "hard": "soft", "fast": "slow",
}  # fmt: skip
SHORT_WORDS = [
    "cat", "dog", "sun", "map", "red", "bed", "pen", "cup", "hat", "fox", "net", "ten", "pot", "bus", "ship", "moon", "tree",
    "star", "boat", "bird", "lamp", "fish", "milk", "king", "leaf", "snow", "rain", "wolf", "corn", "gate", "bread", "river",
    "house", "apple", "stone", "cloud", "green", "tiger", "music", "train",
]  # fmt: skip
WHO = [
    ("Who are you?", "I am a small example model, trained with Finebits."),
    ("What is your name?", "I have no name. I am the example model of Finebits."),
    ("Who made you?", "The people who write Finebits made me."),
    ("What is Finebits?", "Finebits is a service that trains models and reports what they learned in bits."),
    ("How large are you?", "I have about half a million parameters."),
    ("Are you a person?", "No, I am a very small language model."),
    ("What can you do?", "I can answer short questions, and I am often wrong."),
    ("How do you measure what you learned?", "In bits. Fewer bits for each token is better."),
    ("Can I trust your answers?", "Please check them. I am only a small example."),
    ("How are you today?", "I am well, thank you."),
]
POLITE = ["{}", "Hello. {}", "Please tell me: {}", "Good morning. {}", "I have a question. {}"]

Record = dict[str, str]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    (folder / "instructions.json").write_text(as_json(instructions()), encoding="utf-8")
    (folder / "preferences.json").write_text(as_json(preferences()), encoding="utf-8")
    (folder / "primer.txt").write_text("".join(f"{line}\n" for line in primer()), encoding="utf-8")


def as_json(records: list[Record]) -> str:
    """One record a line: a difference between two versions then shows the records that changed."""
    return "[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n"


# ── the instruction set ──


def instructions(seed: int = 2) -> list[Record]:
    """Distinct prompts in random order, `RECORDS_A_KIND` of each kind, so that any cut of the file holds every kind."""
    rng = random.Random(seed)
    records = [record for kind in KINDS for record in distinct(kind, rng)]
    rng.shuffle(records)
    return records


def distinct(kind: Callable[[random.Random], Record], rng: random.Random) -> list[Record]:
    found: dict[tuple[str, str], Record] = {}
    while len(found) < RECORDS_A_KIND:
        record = kind(rng)
        found.setdefault((record["instruction"], record["input"]), record)
    return list(found.values())


def ask(instruction: str, output: str, given: str = "") -> Record:
    return {"instruction": instruction, "input": given, "output": output}


def add(rng: random.Random) -> Record:
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    asked = rng.choice(["What is {} plus {}?", "Add {} and {}.", "How much is {} + {}?", "Find the sum of {} and {}."])
    return ask(asked.format(a, b), str(a + b))


def larger(rng: random.Random) -> Record:
    a, b = rng.sample(range(21), 2)
    asked = rng.choice(["Which number is larger?", "Choose the larger number.", "Which of the two is more?"])
    return ask(asked, str(max(a, b)), f"{a} and {b}")


def backwards(rng: random.Random) -> Record:
    word = rng.choice(SHORT_WORDS)
    asked = rng.choice(["Write this word backwards.", "Reverse the letters of the word.", "Spell the word from its end."])
    return ask(asked, spelled(word[::-1]), spelled(word))


def plural(rng: random.Random) -> Record:
    one, many = rng.choice(list(PLURALS.items()))
    asked = rng.choice(["What is the plural of {}?", "Write the plural: {}.", "One {}, two what?", "More than one {} is what?"])
    return ask(asked.format(one), many)


def first_letter(rng: random.Random) -> Record:
    word = rng.choice(SHORT_WORDS)
    asked = rng.choice(["What is the first letter of {}?", "With which letter does {} begin?", "Name the first letter of {}."])
    return ask(asked.format(word), word[0])


def next_number(rng: random.Random) -> Record:
    start, step = rng.randint(0, 9), rng.choice([1, 2, 5])
    asked = rng.choice(["Which number comes next?", "Continue the row by one number.", "What follows?"])
    return ask(asked, str(start + 3 * step), ", ".join(str(start + i * step) for i in range(3)))


def day_after(rng: random.Random) -> Record:
    i = rng.randrange(7)
    asked = rng.choice([
        "Which day comes after {}?", "What day follows {}?", "Today is {}. What day is tomorrow?", "Name the day after {}.",
        "If it is {} now, which day is next?", "Yesterday was {}. What is today?", "Tell me the day that comes after {}.",
        "{} is over. Which day begins?",
    ])  # fmt: skip
    return ask(asked.format(DAYS[i]), DAYS[(i + 1) % 7])


def colour(rng: random.Random) -> Record:
    thing, shade = rng.choice(list(COLOURS.items()))
    asked = rng.choice(["What colour is {}?", "Name the colour of {}.", "Say the colour of {}.", "Tell me the colour of {}."])
    return ask(asked.format(thing), f"{thing[0].upper()}{thing[1:]} is {shade}.")


def opposite(rng: random.Random) -> Record:
    a, b = rng.choice(list(OPPOSITES.items()))
    asked = rng.choice(["What is the opposite of {}?", "Name the opposite of {}.", "What is not {}?", "If not {}, then what?"])
    return ask(asked.format(a), b)


def in_order(rng: random.Random) -> Record:
    words = rng.sample(SHORT_WORDS[:20], 3)
    asked = rng.choice(["Sort these words by the alphabet.", "Put the words in order.", "Write the words from a to z."])
    return ask(asked, ", ".join(sorted(words)), ", ".join(words))


def count_letters(rng: random.Random) -> Record:
    word = rng.choice(SHORT_WORDS)
    asked = rng.choice(["How many letters are in this word?", "Count the letters.", "How long is the word?"])
    return ask(asked, str(len(word)), spelled(word))


def who(rng: random.Random) -> Record:
    asked, answer = rng.choice(WHO)
    return ask(rng.choice(POLITE).format(asked), answer)


def spelled(word: str) -> str:
    return "-".join(word)


KINDS = [add, larger, backwards, plural, first_letter, next_number, day_after, colour, opposite, in_order, count_letters, who]


# ── preferences ──


def preferences(seed: int = 5) -> list[Record]:
    """To each instruction its own answer, and one that was given to another."""
    rng = random.Random(seed)
    records = instructions()
    pairs = []
    for record in records:
        others = [other["output"] for other in records if other["output"] != record["output"]]
        asked = {"instruction": record["instruction"], "input": record["input"]}
        pairs.append({**asked, "chosen": record["output"], "rejected": rng.choice(others)})
    return pairs


# ── the primer ──

ANIMALS = ["dog", "cat", "bird", "fox", "mouse", "wolf", "frog", "sheep"]
PEOPLE = ["child", "farmer", "sailor", "teacher", "baker", "king", "woman", "man"]
PLACES = ["river", "garden", "house", "boat", "tree", "city", "gate", "sea", "school", "hill"]
WORDS_FOR_ALL = ["old", "small", "quiet", "bright", "green", "wild", "brave", "young", "happy", "tired"]
ACTS = ["runs", "sings", "sleeps", "waits", "sits", "walks", "plays", "rests"]
DEEDS = ["sees", "finds", "follows", "paints", "likes", "knows", "calls", "helps"]
WHERE = ["near", "under", "beside", "behind", "by", "in front of"]
HOW = ["slowly", "softly", "often", "again", "all day", "in the morning", "at night"]
LINKS = ["and", "while", "because", "but", "and then"]


def primer(seed: int = 3) -> list[str]:
    """One line is one document: a little story, a few facts, or a few questions with their answers."""
    rng = random.Random(seed)
    return [rng.choice([story, facts, questions, headed])(rng) for _ in range(PRIMER_LINES)]


def story(rng: random.Random) -> str:
    return " ".join(sentence(rng) for _ in range(rng.randint(2, 4)))


def sentence(rng: random.Random) -> str:
    words = f"{clause(rng)} {rng.choice(LINKS)} {clause(rng)}." if rng.random() < 0.5 else f"{clause(rng)}."
    return words[0].upper() + words[1:]


def clause(rng: random.Random) -> str:
    hero = f"the {rng.choice(['', rng.choice(WORDS_FOR_ALL) + ' '])}{rng.choice(ANIMALS + PEOPLE)}"
    place = f"{rng.choice(WHERE)} the {rng.choice(PLACES)}"
    return rng.choice([
        f"{hero} {rng.choice(ACTS)} {place}",
        f"{hero} {rng.choice(ACTS)} {rng.choice(HOW)}",
        f"{hero} {rng.choice(DEEDS)} the {rng.choice(ANIMALS + PEOPLE + PLACES)}",
        f"{hero} is {rng.choice(WORDS_FOR_ALL)}",
    ])  # fmt: skip


def facts(rng: random.Random) -> str:
    return " ".join(fact(rng) for _ in range(rng.randint(3, 6)))


def fact(rng: random.Random) -> str:
    i, a, b, word = rng.randrange(7), rng.randint(0, 9), rng.randint(0, 9), rng.choice(SHORT_WORDS)
    start, step = rng.randint(0, 9), rng.choice([1, 2, 5])
    return rng.choice([
        f"{a} plus {b} is {a + b}.",
        f"{max(a, b) + 1} is more than {min(a, b)}.",
        "One {}, two {}.".format(*rng.choice(list(PLURALS.items()))),
        "The opposite of {} is {}.".format(*rng.choice(list(OPPOSITES.items()))),
        "The colour of {} is {}.".format(*rng.choice(list(COLOURS.items()))),
        f"{DAYS[(i + 1) % 7]} comes after {DAYS[i]}.",
        f"The word {word} begins with {word[0]} and has {len(word)} letters: {spelled(word)}.",
        f"From its end {spelled(word)} is {spelled(word[::-1])}.",
        f"We count {', '.join(str(start + j * step) for j in range(4))}.",
    ])  # fmt: skip


def questions(rng: random.Random) -> str:
    return " ".join(f"Question: {asked(record)} Answer: {record['output']}" for record in some_records(rng, 2, 4))


def headed(rng: random.Random) -> str:
    """The headings of the Alpaca prompt, on one line."""
    return " ".join(f"### Instruction: {asked(record)} ### Response: {record['output']}" for record in some_records(rng, 1, 3))


def some_records(rng: random.Random, least: int, most: int) -> list[Record]:
    return [rng.choice(KINDS)(rng) for _ in range(rng.randint(least, most))]


def asked(record: Record) -> str:
    return f"{record['instruction']} {record['input']}".strip()


if __name__ == "__main__":
    main()
