-- Closing prices: their average in each category.
SELECT category, avg(final) AS average
FROM (
  -- What each auction was closed at: its highest bid before it expired.
  SELECT a.id, a.category, a.expires, max(b.price) AS final
  FROM auctions a JOIN bids b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.category, a.expires
)
GROUP BY category
