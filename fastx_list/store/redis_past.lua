-- What has happened, which is noted in the step in which it does, and what is forgotten.
-- redis_past.py says what stands in these keys.

local TRIM_AT_ONCE = 100

local RUNNING = 4 * 10 ^ 15 -- before the place of a session that runs in the order of ends

-- Whether one event is after another, both by their ids in the stream.
local function is_after(one, other)
  local ms, rest = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_rest = string.match(other or '', '^(%d+)-(%d+)$')
  if not other_ms or ms ~= other_ms then
    return not other_ms or tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(rest) > tonumber(other_rest)
end

-- Takes note that an event is a login's, and drops its oldest ones where those are too many.
local function count_event(login, event)
  local theirs, all = key('events-of:' .. login), key('events')
  local count = redis.call('RPUSH', theirs, event)
  local first = redis.call('XRANGE', all, '-', '+', 'COUNT', 1)[1][1]
  for _ = 1, 2 do -- of those that the stream has no more, faster than they come
    local oldest = redis.call('LINDEX', theirs, 0)
    if oldest and is_after(first, oldest) then
      redis.call('LPOP', theirs)
      count = count - 1
    end
  end
  for _ = 1, math.min(TRIM_AT_ONCE, count - max_events_of_login) do
    local oldest = redis.call('LPOP', theirs)
    local is_there = redis.call('XDEL', all, oldest) == 1
    if is_there and is_after(oldest, redis.call('GET', key('events-dropped'))) then
      redis.call('SET', key('events-dropped'), oldest)
    end
  end
  -- Of a login that is away for so long, there are none any more
  redis.call('EXPIRE', theirs, 2 * math.max(keep, keep_events))
end

local function note(what, id, login, server, more)
  local about = { 'n', name, 'w', what, 'k', integer(math.floor(clock / 1000)), 'a', integer(wall) }
  for field, value in pairs({ s = id or '', l = login or '', v = server or '', m = more or '' }) do
    if value ~= '' then
      table.insert(about, field)
      table.insert(about, value)
    end
  end
  local event = redis.call('XADD', key('events'), 'MAXLEN', '~', max_kept, '*', unpack(about))
  if login and login ~= '' then
    count_event(login, event)
  end
end

local function login_of(line)
  return string.match(line or '', '\n(.*)$') or ''
end

local function remove_past(id, login)
  redis.call('HDEL', key('past'), id)
  redis.call('HDEL', key('past-texts'), id)
  redis.call('ZREM', key('past-kept'), id)
  redis.call('ZREM', key('past-places'), id)
  redis.call('ZREM', key('past-places:' .. login), id)
end

-- Takes besides what the session is whether it begins, how many clients have left and come, and
-- what is said of those.
local function put_past(id, login, server, line, place, is_back, visits, now_so)
  local before = redis.call('HGET', key('past'), id)
  if before and login_of(before) ~= login then
    redis.call('ZREM', key('past-places:' .. login_of(before)), id)
  end
  redis.call('HSET', key('past'), id, line)
  redis.call('HDEL', key('past-texts'), id)
  redis.call('ZREM', key('past-kept'), id)
  redis.call('ZADD', key('past-places'), place, id)
  redis.call('ZADD', key('past-places:' .. login), place, id)
  local begins, left, came = string.match(visits, '^(%d) (%d+) (%d+)$')
  if begins == '1' then
    note('sessionBegan', id, login, server, is_back and '{"again":true}')
    if is_back then
      return
    end
  end
  for _ = 1, tonumber(left) do
    note('clientLeft', id, login, server, now_so)
  end
  for _ = 1, tonumber(came) do
    note('clientConnected', id, login, server, now_so)
  end
end

-- Drops the oldest of a login's sessions that have ended, where those are too many.
local function drop_oldest(login)
  local places = key('past-places:' .. login)
  local ended = '(' .. integer(RUNNING)
  local over = redis.call('ZCOUNT', places, '-inf', ended) - max_of_login
  if over > 0 then
    over = math.min(over, TRIM_AT_ONCE)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', places, '-inf', ended, 'LIMIT', 0, over)) do
      remove_past(id, login)
    end
  end
end

-- To be called before the session ends; ``why`` is said of it.
local function end_past(id, login, server, why)
  local line = redis.call('HGET', key('past'), id)
  local began, connected, since, rest =
    string.match(line or '', '^(%d+) %S+ (%d+) (%S+) (.*)$')
  local more = why
  if began then -- else of an older release
    local total = tonumber(connected) + math.max(0, wall - (number(since) or wall))
    began = integer(math.min(tonumber(began), wall)) -- a clock may have been set back
    local now = began .. ' ' .. integer(wall) .. ' ' .. integer(total) .. ' - ' .. rest
    redis.call('HSET', key('past'), id, now)
    redis.call('HSET', key('past-texts'), id, redis.call('HGET', key('sessions'), id) or '')
    redis.call('ZADD', key('past-kept'), integer(clock), id)
    redis.call('ZADD', key('past-places'), integer(wall), id)
    redis.call('ZADD', key('past-places:' .. login_of(line)), integer(wall), id)
    drop_oldest(login_of(line))
    more = '"began":' .. began .. ',"connectedSeconds":' .. integer(math.floor(total / 1000))
    more = more .. (why and ',' .. why or '')
  end
  note('sessionEnded', id, login, server, more and '{' .. more .. '}')
end

-- Takes of sessions that have ended, and are not there, the ids, logins, pasts, places, for how many
-- milliseconds they have been over, and JSON; returns how many that were.
local function add_past()
  local count = 0
  for index = FIRST, #ARGV, 6 do
    local id, login, line, place, age, text = unpack(ARGV, index, index + 5)
    if redis.call('HSETNX', key('past'), id, line) == 1 then
      redis.call('HSET', key('past-texts'), id, text)
      redis.call('ZADD', key('past-kept'), integer(clock - tonumber(age)), id)
      redis.call('ZADD', key('past-places'), place, id)
      redis.call('ZADD', key('past-places:' .. login), place, id)
      count = count + 1
    end
  end
  return count
end

-- Drops what is first in a stream for as long as ``is_old`` says so of its field with the time.
-- There is nothing to drop as a rule, so the first one is looked at alone.
local function trim(stream, field, is_old)
  local last
  for _, count in ipairs({ 1, TRIM_AT_ONCE }) do
    for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', count)) do
      if not is_old(number(entry[2][field]) or 0) then
        break
      end
      last = entry[1]
    end
    if not last then
      return
    end
  end
  redis.call('XTRIM', stream, 'MINID', last)
  redis.call('XDEL', stream, last)
end

local function forget_past()
  local kept = key('past-kept')
  local before = integer(clock - keep * 1000)
  local ids = redis.call('ZRANGEBYSCORE', kept, '-inf', before, 'LIMIT', 0, TRIM_AT_ONCE)
  local over = math.min(TRIM_AT_ONCE, redis.call('ZCARD', kept) - max_kept)
  if #ids == 0 and over > 0 then
    ids = redis.call('ZRANGE', kept, 0, over - 1)
  end
  for _, id in ipairs(ids) do
    remove_past(id, login_of(redis.call('HGET', key('past'), id)))
  end
  local events_from = clock / 1000 - math.max(keep, keep_events)
  trim(key('events'), 6, function(at)
    return at <= events_from
  end)
end

local function forget()
  local ended = math.floor(certain / 1000) - keep_revoked
  redis.call('ZREMRANGEBYSCORE', key('revoked'), '-inf', '(' .. integer(ended))
  local before = integer(clock - remember * 1000)
  for _, server in ipairs(redis.call('ZRANGEBYSCORE', key('remembered'), '-inf', before)) do
    redis.call('DEL', key('gone:' .. server), key('gone-params:' .. server))
    redis.call('ZREM', key('remembered'), server)
  end
  trim(key('changes'), 4, function(at)
    -- What is later than now is of an older version, by the machine's clock
    return at < clock / 1000 - keep_ends or at > clock / 1000
  end)
  forget_past()
end

-- Forgets some of a login's sessions that have ended; returns how many.
local function erase_past(login)
  local places = key('past-places:' .. login)
  local ids = redis.call('ZRANGEBYSCORE', places, '-inf', integer(RUNNING), 'LIMIT', 0, AT_ONCE)
  for _, id in ipairs(ids) do
    remove_past(id, login)
  end
  return #ids
end

-- Looks at some events, and forgets those of a login; returns where to go on, if anywhere.
local function erase_events(login, from)
  redis.call('DEL', key('events-of:' .. login))
  local entries = redis.call('XRANGE', key('events'), from, '+', 'COUNT', AT_ONCE)
  for _, entry in ipairs(entries) do
    for index = 1, #entry[2], 2 do
      if entry[2][index] == 'l' and entry[2][index + 1] == login then
        redis.call('XDEL', key('events'), entry[1])
      end
    end
  end
  return #entries == AT_ONCE and '(' .. entries[#entries][1] or ''
end

-- How many of a login's events there are before the first of which that is true.
local function count_until(theirs, is_so)
  local low, high = 0, redis.call('LLEN', theirs)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_so(redis.call('LINDEX', theirs, middle)) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Some of a login's events, after one id and before another where they are not empty, and the id of
-- the last one if there may be more. Writes nothing.
local function events_of(login, after, before, limit, last_first)
  local theirs = key('events-of:' .. login)
  local first = after == '' and 0 or count_until(theirs, function(event)
    return is_after(event, after)
  end)
  local last = before == '' and redis.call('LLEN', theirs) or count_until(theirs, function(event)
    return not is_after(before, event)
  end)
  if last_first == '1' then
    first = math.max(first, last - limit)
  else
    last = math.min(last, first + limit)
  end
  local ids = first < last and redis.call('LRANGE', theirs, first, last - 1) or {}
  local found, place = {}, ''
  for step = 1, #ids do
    place = ids[last_first == '1' and #ids + 1 - step or step]
    table.insert(found, redis.call('XRANGE', key('events'), place, place)[1])
  end
  return { found, #ids == tonumber(limit) and place or '' }
end

-- What is asked for once more has been noted.
local function note_once(what, login, more)
  local last = redis.call('XREVRANGE', key('events'), '+', '-', 'COUNT', 1)[1]
  if not last or last[2][2] ~= name then
    note(what, nil, login, nil, more)
  end
  return 1
end
