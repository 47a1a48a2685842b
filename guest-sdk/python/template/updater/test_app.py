import sys
import unittest
from dataclasses import dataclass

sys.path.insert(0, "sdk")

from tidemill_guest import testing

from app import Entry, balances


@dataclass
class Key:
    account: int


class Balances(unittest.TestCase):
    def test_a_balance_is_kept_until_its_account_is_closed(self):
        batches = testing.Updates(balances, Key, Entry)
        for amount, close, balance, kept in (
            (10, False, 10, {"balance": 10, "entries": 1}),
            (-4, None, 6, {"balance": 6, "entries": 2}),
            (1, True, 7, None),
        ):
            ran = batches.run(0, [(Key(1), [Entry(amount, close)])])
            self.assertEqual(ran.column("balance"), [balance])
            self.assertEqual(batches.state(Key(1)), kept)


if __name__ == "__main__":
    unittest.main()
