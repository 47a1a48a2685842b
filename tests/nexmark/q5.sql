-- Hot items: the auction with the most bids in windows of 10 seconds every 2 seconds; of several the first.
WITH panes AS (
  SELECT CAST(date_time AS BIGINT) / 2000000 AS pane, auction, count(*) AS n FROM bids GROUP BY 1, 2
), windows AS (
  -- A pane is in the window that starts with it, and in the four before.
  SELECT (pane - k) * 2000000 AS start_us, auction, sum(n) AS n
  FROM panes CROSS JOIN (VALUES (0), (1), (2), (3), (4)) AS earlier (k)
  GROUP BY 1, 2
), places AS (
  SELECT *, row_number() OVER (PARTITION BY start_us ORDER BY n DESC, auction) AS place FROM windows
)
SELECT
  arrow_cast(start_us, 'Timestamp(Microsecond, Some("+00:00"))') AS window_start,
  arrow_cast(start_us + 10000000, 'Timestamp(Microsecond, Some("+00:00"))') AS window_end,
  auction,
  n
FROM places WHERE place = 1
