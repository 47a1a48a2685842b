import sys
import unittest
from dataclasses import dataclass

sys.path.insert(0, "sdk")

from tidemill_guest import testing

from app import Visit, path


@dataclass
class Key:
    user: str


class Path(unittest.TestCase):
    def test_visits_are_put_in_order(self):
        ran = testing.group(path, [(Key("a"), [Visit(5, "y"), Visit(2, None)]), (Key("b"), [Visit(1, "x")])])
        self.assertEqual(ran.column("at"), [2, 5, 1])
        self.assertEqual(ran.column("since"), [None, 3, None])
        self.assertEqual(ran.origin, [0, 0, 1])


if __name__ == "__main__":
    unittest.main()
