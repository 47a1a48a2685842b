// An updater: keeps the balance of each account, until it is closed.
package main

import (
	tidemill "github.com/tidemill/tidemill/guest-sdk/go"
	"github.com/tidemill/tidemill/guest-sdk/go/updater"
)

// Entry is what is read.
type Entry struct {
	Amount int64               `tidemill:"amount"`
	Close  tidemill.Null[bool] `tidemill:"close"`
}

// Account is what is kept of a key. The host holds it: a crash loses nothing of it and sees nothing of it twice.
type Account struct {
	Balance int64 `tidemill:"balance"`
	Entries int64 `tidemill:"entries"`
}

// Balance is what is written, behind the key.
type Balance struct {
	Balance int64 `tidemill:"balance"`
	Entries int64 `tidemill:"entries"`
	Closed  bool  `tidemill:"closed"`
}

// Operator is the operator. It has no configuration.
type Operator struct{}

// Update is called with what an account has in a batch. It reads nothing of the key.
func (*Operator) Update(_ struct{}, rows tidemill.GroupRows[Entry], state *updater.State[Account], out *tidemill.Emitter[Balance]) error {
	account, _ := state.Get()
	closed := false
	for _, entry := range rows {
		account.Balance += entry.Amount
		account.Entries++
		closed = closed || entry.Close.Or(false)
	}
	if closed {
		state.Remove()
	} else {
		state.Set(account)
	}
	out.Emit(Balance{account.Balance, account.Entries, closed})
	return nil
}

func init() { updater.Export(&Operator{}) }

func main() {}
