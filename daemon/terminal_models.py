"""The line of the screen that says what goes on with the ensembles; there is none while nothing does. Pure."""

from daemon import wording, wording_models
from daemon.model_life import Phase
from daemon.terminal_board import Board
from daemon.terminal_table import DIM, Line, apart, text

MODEL_ID = 12
"""Digits of an id that the screen shows."""


def models_line(board: Board, width: int) -> list[Line]:
    """Return what is tried, watched or trained, as one line of `width` columns; none when nothing is."""
    told = [words for words in (_comparison(board, width), _retraining(board)) if words]
    if not told:
        return []
    first, *beside = told
    right = text(f"{beside[0]} ", DIM) if beside else ()
    return [apart(text(f" {first[0].upper()}{first[1:]}"), right, width)]


def _comparison(board: Board, width: int) -> str:
    match board.life.phase:
        case Phase.SHADOW:
            return _shadow(board, width)
        case Phase.WATCH:
            return f"watched: {_watch(board)}"
        case Phase.STEADY:
            return ""


def _shadow(board: Board, width: int) -> str:
    head = f"candidate {board.life.candidate[:MODEL_ID]} in shadow"
    compared = board.compared
    if compared is None:
        return f"{head}: not compared yet"
    figures = compared["count"], compared["of"], 1e4 * compared["mean"], compared["p_better"]
    full = f"{head}: {wording_models.shadow_words(*figures)}"
    if len(full) < width:
        return full
    return f"shadow {board.life.candidate[:MODEL_ID]}: {wording_models.short_shadow_words(*figures)}"


def _watch(board: Board) -> str:
    compared = board.compared
    if compared is None:
        return "not compared with the former one yet"
    return wording_models.watch_words(compared["count"], compared["of"], compared["lead"])


def _retraining(board: Board) -> str:
    retrain = board.life.retrain
    if retrain is None or not board.life.is_retraining:
        return ""
    return f"retraining since {wording.short_moment(retrain.at_ms)}, asked for {wording_models.BY[retrain.by]}"
