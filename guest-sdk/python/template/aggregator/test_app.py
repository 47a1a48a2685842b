import sys
import unittest

sys.path.insert(0, "sdk")

from tidemill_guest import testing

from app import MeanOf, Reading


class Mean(unittest.TestCase):
    def test_nulls_are_left_out(self):
        groups = [[Reading(1.0), Reading(None), Reading(2.0)], [Reading(None)]]
        for pieces in (1, 2):
            ran = testing.aggregate(MeanOf, groups, pieces=pieces)
            self.assertEqual(ran.rows, [{"mean": 1.5, "readings": 2}, {"mean": None, "readings": 0}])


if __name__ == "__main__":
    unittest.main()
