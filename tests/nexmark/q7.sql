-- Highest bid: its price and auction in windows of 10 seconds; of several auctions the first.
WITH highest AS (
  SELECT CAST(date_time AS BIGINT) / 10000000 * 10000000 AS start_us, auction, max(price) AS price FROM bids GROUP BY 1, 2
), places AS (
  SELECT *, row_number() OVER (PARTITION BY start_us ORDER BY price DESC, auction) AS place FROM highest
)
SELECT
  arrow_cast(start_us, 'Timestamp(Microsecond, Some("+00:00"))') AS window_start,
  arrow_cast(start_us + 10000000, 'Timestamp(Microsecond, Some("+00:00"))') AS window_end,
  auction,
  price
FROM places WHERE place = 1
