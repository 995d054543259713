-- A journal of schema 1, as sacd 0.1.0 wrote it; hashes computed with hashlib and struct alone.
PRAGMA application_id = 1935762276;
PRAGMA user_version = 1;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO events VALUES (1, 1600000000001, 'run', '{"account":{"cash":1000.0}}', x'400ccd89656050644ae598202e1f389918de1d74132e0d5133a03d5e62c19702');
INSERT INTO events VALUES (2, 1600000000002, 'candle', '{"candles":[["BTC/USDT",1.0,2.0,0.5,1.5,3.0]],"open_ms":1600000000000}', x'4fd18f0fac958c2acd78c2208563d5970cd0e0974e29e910f18f7345edb79c78');
INSERT INTO events VALUES (3, 1600000000003, 'decision', '{"symbol":"BTC/USDT","target":0.25}', x'17b4fdb54b7487a313f2317d80d787658969f746c2302bedcad58a5f01101940');
INSERT INTO events VALUES (4, 1600000000004, 'kline', '{"of":"a kind that this program does not know"}', x'64cf24af6ba43c3ac92e4ea30dac9c56b73ad3ff394980bd1921184646c31b03');
INSERT INTO events VALUES (5, 1600000000005, 'fill', '{"fill_id":"1","price":1.5}', x'f411c31503ac4eac7a756ea8ef754e924d8b5ff1949cb314098eafae3fa4bf13');
INSERT INTO events VALUES (6, 1600000000006, 'stop', '{"reason":"its over"}', x'56f60c0eaca4d6a83792a32e9f04a2f94b3232c6567c3b3dd90db26eb0fb45f3');
