"""The balance of an account, from batch to batch."""

from dataclasses import dataclass
from typing import Optional

from tidemill_guest import State, updater


@dataclass
class Entry:
    """What is read of a row."""

    amount: int
    close: Optional[bool]


@dataclass
class Account:
    """What is kept of a key. The host holds it: a crash loses nothing of it and sees nothing of it twice."""

    balance: int = 0
    entries: int = 0


@dataclass
class Balance:
    """What is written, behind the key."""

    balance: int
    entries: int
    closed: bool


@updater
def balances(rows: list[Entry], state: State[Account]) -> Balance:
    """Keeps the balance of each account, and forgets those that are closed."""
    account = state.get(Account())
    closed = False
    for entry in rows:
        account.balance += entry.amount
        account.entries += 1
        closed = closed or entry.close is True
    if closed:
        state.remove()
    else:
        state.set(account)
    return Balance(account.balance, account.entries, closed)
