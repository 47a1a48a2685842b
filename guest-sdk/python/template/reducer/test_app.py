import sys
import unittest

sys.path.insert(0, "sdk")

from tidemill_guest import testing

from app import Sales, combine


class Combine(unittest.TestCase):
    def test_rows_of_a_group_become_one(self):
        groups = [[Sales(1, 5, 5), Sales(2, -3, 4)], [Sales(1, 7, 7)]]
        ran = testing.reduce(combine, groups)
        self.assertEqual(ran.rows, [{"count": 3, "amount": 2, "highest": 5}, {"count": 1, "amount": 7, "highest": 7}])


if __name__ == "__main__":
    unittest.main()
