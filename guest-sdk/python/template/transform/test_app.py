import sys
import unittest

sys.path.insert(0, "sdk")

from tidemill_guest import testing

from app import Line, split_words


class SplitWords(unittest.TestCase):
    def test_words_stand_between_white_space(self):
        lines = [Line("To  be\tor"), Line(None), Line("")]
        ran = testing.transform(split_words, lines, {"lowercase": True})
        self.assertEqual(ran.column("word"), ["to", "be", "or"])
        self.assertEqual(ran.column("position"), [0, 1, 2])
        self.assertEqual(ran.rejected, [(1, "`value` is null")])


if __name__ == "__main__":
    unittest.main()
