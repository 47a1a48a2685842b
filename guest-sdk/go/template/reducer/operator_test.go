package main

import "testing"

func TestSalesAreCombined(t *testing.T) {
	if sum, err := plus(Sale{1, 10, 10}, Sale{2, 30, 25}); err != nil || sum != (Sale{3, 40, 25}) {
		t.Error(sum, err)
	}
}
