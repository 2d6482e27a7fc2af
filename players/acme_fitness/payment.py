"""Payment: judges the card, charges it, and always answers with one `payment.card.validated`; pays refunds back.

A class, since an instance keeps a connection to its bank: settings go to the constructor, `close` is called at the end.
Nothing about an order is kept, and no event holds a card's number: the vault has it, events carry its token.
"""

from __future__ import annotations

from ensemble import Context
from players.acme_fitness.cards import RULES
from players.acme_fitness.events import CardValidated, PaymentRefunded, PaymentRequested, RefundRequested
from players.acme_fitness.providers import Bank


class Payment:
    def __init__(self, rules: str = "A", flaky: float = 0.0) -> None:
        """`rules`: A or B, see cards.py. `flaky`: the share of attempts at which the bank does not answer."""
        if rules not in RULES:
            raise ValueError(f"there are no card rules {rules!r}; choose one of {', '.join(RULES)}")
        self._judge = RULES[rules]
        self._bank = Bank(float(flaky))

    def __call__(self, asked: PaymentRequested, ctx: Context) -> CardValidated:
        verdict = self._judge(self._bank.card(asked.card), asked.total, ctx.now)
        transaction_id = verdict.transaction_id
        if verdict.success:
            transaction_id = self._bank.charge(verdict.amount, idempotency_key=ctx.token, attempt=ctx.attempt)
        return CardValidated(asked.order_id, verdict.success, verdict.status, verdict.message, verdict.amount, transaction_id)

    def close(self) -> None:
        self._bank.close()


def refund(asked: RefundRequested, ctx: Context) -> PaymentRefunded:
    transaction_id = Bank().refund(asked.amount, idempotency_key=ctx.token)
    return PaymentRefunded(asked.order_id, asked.user_id, asked.country, asked.amount, transaction_id)
