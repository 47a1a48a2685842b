// A reducer: combines sales into how many, how much, and the highest.
package main

import "github.com/tidemill/tidemill/guest-sdk/go/reducer"

// Sale has all the columns that are not keys.
type Sale struct {
	Count   int64 `tidemill:"count"`
	Amount  int64 `tidemill:"amount"`
	Highest int64 `tidemill:"highest"`
}

func plus(a, b Sale) (Sale, error) {
	return Sale{a.Count + b.Count, a.Amount + b.Amount, max(a.Highest, b.Highest)}, nil
}

func init() { reducer.Func(plus) }

func main() {}
