//! The balance of an account, from batch to batch.

use tidemill_guest::{AnyKey, GroupEmitter, GroupRows, Refusal, Row, StateHandle, Step, Update, operator};

/// What is read of a row.
#[derive(Row)]
pub struct Entry {
    amount: i64,
    close: Option<bool>,
}

/// What is kept of a key. The host holds it: a crash loses nothing of it and sees nothing of it twice.
#[derive(Row, Clone, Debug, PartialEq)]
pub struct Account {
    balance: i64,
    entries: i64,
}

/// What is written, behind the key.
#[derive(Row)]
pub struct Balance {
    balance: i64,
    entries: i64,
    closed: bool,
}

/// Keeps the balance of each account, and forgets those that are closed.
pub struct Balances;

#[operator]
impl Update for Balances {
    type Key<'a> = AnyKey;
    type Input<'a> = Entry;
    type State = Account;
    type Output = Balance;

    fn open(_: &Step) -> Result<Self, Refusal> {
        Ok(Balances)
    }

    fn update(
        &mut self,
        _: AnyKey,
        rows: GroupRows<'_, Entry>,
        state: &mut StateHandle<Account>,
        out: &mut GroupEmitter<Balance>,
    ) {
        let mut account = state.take().unwrap_or(Account { balance: 0, entries: 0 });
        let mut closed = false;
        for entry in rows {
            account.balance += entry.amount;
            account.entries += 1;
            closed |= entry.close == Some(true);
        }
        out.emit(Balance { balance: account.balance, entries: account.entries, closed });
        if !closed {
            state.set(account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_guest::TimestampUs;
    use tidemill_guest::testing;

    #[derive(Row, Clone, PartialEq, Debug)]
    struct Key {
        account: i64,
    }

    #[test]
    fn a_balance_is_kept_until_its_account_is_closed() {
        let mut batches = testing::update::<Key, Entry, Account>(&Balances::operator(), "{}").unwrap();
        let key = Key { account: 1 };
        let mut run = |amount, close| {
            let rows = vec![Entry { amount, close: Some(close) }];
            let ran = batches.run(TimestampUs(0), [(key.clone(), rows)]).unwrap();
            (ran.column::<i64>("balance")[0], batches.state(&key).cloned())
        };
        assert_eq!(run(10, false), (Some(10), Some(Account { balance: 10, entries: 1 })));
        assert_eq!(run(-4, false), (Some(6), Some(Account { balance: 6, entries: 2 })));
        assert_eq!(run(1, true), (Some(7), None));
    }
}
