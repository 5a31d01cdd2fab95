"""The veil over machine paths: however a text is cut into pieces, the same is shown, and no path. [HIDE-1]"""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.turns.veil import Veil

WORK, HOME = "/home/me/sessions/s1/work", "/home/me/sessions/s1/home"
PATHS = {WORK: "/workspace", HOME: "~"}
NESTED = {"/home/s": "/session", "/home/s/work": "/workspace", "/home/s/home": "~"}  # each begins with the first
ODD = {"aba": "1", "abab": "2", "/x/x": "3"}  # paths that end as they begin

letters = st.sampled_from(
    ["/", "/home", "/me", "/sessions", "/s1", "/s", "/work", "h", "x", "/x", "a", "b", "ab", " ", "é", "\n"]
)
texts = st.lists(letters | st.sampled_from([WORK, HOME]), max_size=30).map("".join)
cuts = st.lists(st.integers(0, 400), max_size=12)


def shown(paths: dict[str, str], text: str, cuts: list[int]) -> str:
    veil = Veil(paths)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [veil.text(text[start:end]) for start, end in pairwise(edges)]
    return "".join(pieces) + veil.rest()


@given(st.sampled_from([PATHS, NESTED, ODD]), texts, cuts)
@example(PATHS, f"in {HOME}", [len(f"in {HOME}")])
@example(ODD, "ababab/x/x/x", list(range(12)))
def test_every_split_of_a_text_gives_the_same_text(paths: dict[str, str], text: str, cuts: list[int]) -> None:
    assert shown(paths, text, cuts) == Veil(paths).clean(text)


@given(texts, cuts)
def test_no_path_is_ever_shown(text: str, cuts: list[int]) -> None:
    said = shown(PATHS, text, cuts)
    assert WORK not in said
    assert HOME not in said


@given(texts)
def test_text_without_the_beginning_of_a_path_is_never_held_back(text: str) -> None:
    said = text.replace("/", "-")
    assert Veil(PATHS).text(said) == said


def test_a_whole_path_at_the_end_of_a_piece_is_shown_at_once() -> None:
    assert Veil(PATHS).text(f"I am in {HOME}") == "I am in ~"


def test_paths_are_replaced_in_all_of_a_json_value() -> None:
    value = {f"{WORK}/a": [f"cat {HOME}/b", 5, None, True], "deep": {"x": {"y": f"{WORK}:{HOME}"}}}
    assert Veil(PATHS).clean(value) == {
        "/workspace/a": ["cat ~/b", 5, None, True],
        "deep": {"x": {"y": "/workspace:~"}},
    }
