-- Selling prices: their average over the last ten auctions of each seller.
SELECT seller, avg(final) AS average
FROM (
  SELECT *, row_number() OVER (PARTITION BY seller ORDER BY expires DESC, id DESC) AS place
  FROM (
    -- What each auction was closed at: its highest bid before it expired.
    SELECT a.id, a.seller, a.expires, max(b.price) AS final
    FROM auctions a JOIN bids b ON a.id = b.auction
    WHERE b.date_time BETWEEN a.date_time AND a.expires
    GROUP BY a.id, a.seller, a.expires
  )
)
WHERE place <= 10
GROUP BY seller
