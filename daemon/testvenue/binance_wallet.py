"""Binance's wallet calls (`/sapi/v1`) that a trading program asks: key rights, fees, coins, system status.

Source: Binance wallet documents (read 2026-11), and what ccxt 4.5.90 reads of the answers.
"""

from daemon.testvenue.binance_call import Call
from daemon.testvenue.binance_words import Json, text
from daemon.testvenue.book import Book
from daemon.testvenue.market import Status


class WalletCalls:
    """Answers calls about the account's surroundings."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def restrictions(self, call: Call) -> Json:
        """GET account/apiRestrictions."""
        rights = call.account.rights
        return {
            "ipRestrict": rights.is_bound_to_ip, "createTime": 1_600_000_000_000, "enableReading": rights.may_read,
            "enableWithdrawals": rights.may_withdraw, "enableInternalTransfer": rights.may_withdraw,
            "enableMargin": False, "enableFutures": False, "permitsUniversalTransfer": rights.may_withdraw,
            "enableVanillaOptions": False, "enableFixApiTrade": False, "enableFixReadOnly": False,
            "enableSpotAndMarginTrading": rights.may_trade, "enablePortfolioMarginTrading": False,
        }  # fmt: skip

    def trade_fees(self, call: Call) -> list[Json]:
        """GET asset/tradeFee."""
        wanted, account = call.params.get("symbol"), call.account
        return [
            {
                "symbol": market.base + market.quote, "makerCommission": text(account.maker),
                "takerCommission": text(account.taker),
            }
            for market in self._book.markets.values()
            if market.status is not Status.DELISTED and wanted in {None, market.base + market.quote}
        ]  # fmt: skip

    def coins(self, call: Call) -> list[Json]:
        """GET capital/config/getall."""
        listed = {coin for market in self._book.markets.values() for coin in (market.base, market.quote)}
        return [
            {
                "coin": coin, "depositAllEnable": True, "withdrawAllEnable": True, "name": coin,
                "free": text(call.account.holding(coin).free), "locked": text(call.account.holding(coin).locked),
                "freeze": "0", "withdrawing": "0", "ipoing": "0", "ipoable": "0", "storage": "0",
                "isLegalMoney": False, "trading": True, "networkList": [],
            }
            for coin in sorted(listed | set(call.account.holdings))
        ]  # fmt: skip
