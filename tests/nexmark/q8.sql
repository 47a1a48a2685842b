-- New users: who came and opened auctions within the same window of 10 seconds.
WITH newcomers AS (
  SELECT id, name, CAST(date_time AS BIGINT) / 10000000 * 10000000 AS start_us FROM persons
), openings AS (
  SELECT seller, CAST(date_time AS BIGINT) / 10000000 * 10000000 AS start_us FROM auctions
)
SELECT
  p.id,
  p.name,
  arrow_cast(p.start_us, 'Timestamp(Microsecond, Some("+00:00"))') AS window_start,
  arrow_cast(p.start_us + 10000000, 'Timestamp(Microsecond, Some("+00:00"))') AS window_end,
  count(*) AS auctions
FROM newcomers p JOIN openings a ON p.id = a.seller AND p.start_us = a.start_us
GROUP BY p.id, p.name, p.start_us
