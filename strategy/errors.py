"""What the pure core may raise. Every message names the value, where it stood and what would be right."""


class StrategyError(ValueError):
    """Base of everything `strategy` raises on bad input."""


class InvalidCandle(StrategyError):
    """A candle, or a table of candles, breaks a rule of `strategy.candle`."""


class InvalidInstrument(StrategyError):
    """Tick, lot or minimum notional of an instrument is impossible."""


class InvalidOrder(StrategyError):
    """An order or fill breaks its own invariants."""


class IllegalTransition(StrategyError):
    """An order was told of an event its state does not allow."""


class InvalidParameters(StrategyError):
    """Limits or strategy parameters contradict each other or leave their range."""


class BadWeights(StrategyError):
    """Network weights have a wrong shape or are not finite."""


class BadBundle(StrategyError):
    """A bundle is incomplete, altered, or made for another feature schema."""


class BadState(StrategyError):
    """A stored account state cannot be restored."""
