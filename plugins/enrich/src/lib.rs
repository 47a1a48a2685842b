//! Orders with what is known of their customers: a cogroup of two inputs by the customer, whatever its columns.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `order` | text | read of the first input, and written |
//! | `amount` | float64 | read of the first input, and written |
//! | `name` | text | read of the second input; written, null where the customer is not known |
//! | `tier` | text, may be null | read of the second input; written, null where the customer or the tier is not known |
//!
//! Every order comes out once. Where a customer has more than one row, the last one that came counts; customers without
//! orders are left out.

use tidemill_guest::{AnyKey, CoGroup, GroupEmitter, GroupRows, Refusal, Row, Step, operator};

/// What is read of an order.
#[derive(Row)]
pub struct Order<'a> {
    order: &'a str,
    amount: f64,
}

/// What is read of a customer.
#[derive(Row, Clone, Copy)]
pub struct Customer<'a> {
    name: &'a str,
    tier: Option<&'a str>,
}

/// An order with its customer.
#[derive(Row)]
pub struct Enriched<'a> {
    order: &'a str,
    amount: f64,
    name: Option<&'a str>,
    tier: Option<&'a str>,
}

/// Puts customers to orders.
pub struct Enrich;

#[operator]
impl CoGroup for Enrich {
    type Key<'a> = AnyKey;
    type Left<'a> = Order<'a>;
    type Right<'a> = Customer<'a>;
    type Output = Enriched<'static>;

    fn open(step: &Step) -> Result<Self, Refusal> {
        match step.config.as_str() {
            "{}" => Ok(Enrich),
            _ => Err(Refusal::Config("it has no configuration".into())),
        }
    }

    fn cogroup<'a>(
        &mut self,
        _: AnyKey,
        orders: GroupRows<'a, Order<'a>>,
        customers: GroupRows<'a, Customer<'a>>,
        out: &mut GroupEmitter<Enriched<'static>>,
    ) {
        let customer = customers.last();
        for Order { order, amount } in orders {
            let name = customer.map(|customer| customer.name);
            out.emit(Enriched { order, amount, name, tier: customer.and_then(|customer| customer.tier) });
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing;

    use super::*;

    #[derive(Row)]
    struct Key {
        customer: i64,
    }

    fn customer(name: &'static str, tier: Option<&'static str>) -> Customer<'static> {
        Customer { name, tier }
    }

    fn order(order: &'static str) -> Order<'static> {
        Order { order, amount: 2.5 }
    }

    #[test]
    fn every_order_comes_out_with_its_customer() {
        let groups = [
            (
                Key { customer: 1 },
                vec![order("a"), order("b")],
                vec![customer("Old", None), customer("Ann", Some("gold"))],
            ),
            (Key { customer: 2 }, vec![order("c")], vec![]),
            (Key { customer: 3 }, vec![], vec![customer("Cid", None)]),
            (Key { customer: 4 }, vec![order("d")], vec![customer("Dan", None)]),
        ];
        let ran = testing::cogroup(&Enrich::operator(), "{}", groups).expect("it runs");
        let text = |name: &str| {
            let column = ran.column::<String>(name).into_iter();
            column.map(|value| value.unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text("order"), "a b c d");
        assert_eq!(text("name"), "Ann Ann - Dan");
        assert_eq!(text("tier"), "gold gold - -");
        assert_eq!(ran.column::<f64>("amount"), [Some(2.5); 4]);
        assert_eq!(ran.origin, Some(vec![0, 0, 1, 3]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        #[derive(Row)]
        struct Nameless<'a> {
            tier: &'a str,
        }
        let groups = [(Key { customer: 1 }, vec![order("a")], vec![Nameless { tier: "gold" }])];
        let refused = testing::cogroup(&Enrich::operator(), "{}", groups).expect_err("it is refused");
        assert_eq!(refused.to_string(), "in the second input, column `name` is missing, utf8 is expected");
        let groups = [(Key { customer: 1 }, vec![order("a")])];
        let refused = testing::group(&Enrich::operator(), "{}", groups).expect_err("it is refused");
        assert_eq!(refused.to_string(), "it groups 2 inputs, and the step has 1");
        let groups = [(Key { customer: 1 }, vec![order("a")], vec![customer("Ann", None)])];
        let refused = testing::cogroup(&Enrich::operator(), r#"{"a": 1}"#, groups).expect_err("it is refused");
        assert_eq!(refused.to_string(), "it has no configuration");
    }
}
