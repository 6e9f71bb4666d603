-- One atomic step on the store in Redis. KEYS[1] is its head; all other keys have the same prefix,
-- and in it the same hash tag.
--
-- ARGV: what to do, a random name for this step, nine bounds in one text, then what the step takes.
-- A step fails, if it does, at its first write: Redis refuses all of them alike (full disk, no
-- memory, a replica) or none.

local operation, name = ARGV[1], ARGV[2]
local FIRST = 4 -- what the step takes begins there

-- How many changes are kept, and in seconds: for how long they are, what left with a lease is, and
-- revocations outlive their tokens; for how long the past is kept, and events at least; and how
-- many of both, and of a login's
local bounds = {}
for word in string.gmatch(ARGV[3], '%S+') do
  table.insert(bounds, tonumber(word))
end
local max_changes, keep_ends, remember, keep_revoked, keep, keep_events = unpack(bounds)
local max_kept, max_of_login, max_events_of_login = unpack(bounds, 7)
local prefix = string.sub(KEYS[1], 1, -5)
local LONGEST_STEP = 15000 -- ms; less if a lease is short
local MAX_INSTANCES = 600 -- characters
local AT_ONCE = 1000 -- sessions that end with their leases in one step
local UNFINISHED = '+' -- at the end of an edition of which there is more to write

local function key(rest)
  return prefix .. rest
end

-- What is no number, or none that is exact, is none: anybody may have written it.
local function number(text)
  local value = tonumber(text or nil)
  return value and value > -2 ^ 53 and value < 2 ^ 53 and value or nil
end

local function integer(number)
  return string.format('%.0f', number)
end

-- Leases, and what is forgotten, go by a clock of their own, which is the machine's but for long
-- steps. Those were of a clock that was set, of another machine after a failover, or of a time when
-- nobody could reach this store to renew anything, and count for little. And how late it is at
-- least, by the machine's clock, is told by one that goes twice as fast, to catch up with such
-- times: where the machine's is ahead for an hour, that makes it an hour too late at most.

local time = redis.call('TIME')
local wall = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local kept = redis.call('HMGET', key('clock'), 'wall', 'now', 'longest', 'certain', 'format')

-- A release that writes what this one cannot read says so there. Nothing was written yet.
local FORMAT = 1
if (number(kept[5]) or FORMAT) > FORMAT then
  error('made by a newer fastx-list')
end

local passed =
  math.max(0, math.min(wall - (number(kept[1]) or wall), number(kept[3]) or LONGEST_STEP))
local clock = (number(kept[2]) or 0) + passed
local certain = math.min(wall, (number(kept[4]) or wall) + 2 * passed)

local function advance()
  redis.call(
    'HSET',
    key('clock'),
    'wall',
    integer(wall),
    'now',
    integer(clock),
    'certain',
    integer(certain)
  )
end

-- The order of changes. The head is the last revision and the name of the step that made it. Each
-- change says the name before it, so that a reader notices when the order that it followed is no
-- longer the one that is kept, as after losing the last writes.

local revision, tip

local function append(...)
  if not revision then
    local head = redis.call('GET', KEYS[1])
    if head then
      local digits
      digits, tip = string.match(head, '^(%d+) (%x*)$')
      revision = number(digits)
      if not revision then
        error(KEYS[1] .. ' holds what was not written by this store; remove that key')
      end
    else
      redis.call('DEL', key('changes'))
      redis.call('HSET', key('clock'), 'made', name) -- a random name of the store
      revision, tip = 0, ''
    end
  end
  revision = revision + 1
  local id, at = integer(revision) .. '-0', integer(math.floor(clock / 1000))
  redis.call('XADD', key('changes'), 'MAXLEN', '~', max_changes, id, 'p', tip, 't', at, ...)
  tip = name
  redis.call('SET', KEYS[1], integer(revision) .. ' ' .. tip)
end

-- redis_past.lua stands here

-- Ends no more sessions than make one step; whoever is next goes on.
local function expire()
  local room = AT_ONCE
  for _, server in ipairs(redis.call('ZRANGEBYSCORE', key('expires'), '-inf', integer(clock))) do
    if room <= 0 then
      return
    end
    local digests = key('digests:' .. server)
    local gone, gone_params = key('gone:' .. server), key('gone-params:' .. server)
    local known = redis.call('HRANDFIELD', digests, room, 'WITHVALUES')
    for index = 1, #known, 2 do
      local id, login = known[index], string.match(known[index + 1], '^%S+ (.*)$') or ''
      local text = redis.call('HGET', key('sessions'), id)
      local params = redis.call('HGET', key('params'), id)
      if text and params then
        redis.call('HSET', gone, id, text)
        redis.call('HSET', gone_params, id, params)
      end
      end_past(id, login, server, '"serverLost":true')
      redis.call('HDEL', key('sessions'), id)
      redis.call('HDEL', key('params'), id)
      redis.call('HDEL', digests, id)
      append('s', id, 'l', login, 'v', server)
    end
    room = room - #known / 2
    redis.call('PERSIST', gone) -- an older version let them end by the machine's clock
    redis.call('PERSIST', gone_params)
    redis.call('ZADD', key('remembered'), integer(clock), server)
    redis.call('DEL', key('view:' .. server)) -- an agent that comes back writes all again
    if redis.call('EXISTS', digests) == 0 then
      redis.call('DEL', key('lease:' .. server))
      redis.call('HDEL', key('servers'), server)
      redis.call('ZREM', key('expires'), server)
      append('m', server)
      note('serverLost', nil, nil, server)
    end
  end
end

-- Takes or renews a lease; returns the host of the agent that holds it, if that is another. With it
-- are kept the process that holds it and those that this one replaced, the last one first.
local function claim(server, holder, instance, host, milliseconds)
  local lease = key('lease:' .. server)
  local expires = integer(clock + tonumber(milliseconds))
  local has = redis.call('HMGET', lease, 'holder', 'instance', 'host', 'expires')
  local instances = instance
  if has[1] and (number(has[4]) or 0) > clock then
    local current, replaced = string.match(has[2] or '', '^(%S*)(.*)$')
    local place = string.match(instance, '^(.+)%-')
    local is_ours = has[1] == holder or place and string.match(current, '^(.+)%-') == place
    if not is_ours or string.find(replaced .. ' ', ' ' .. instance .. ' ', 1, true) then
      redis.call('HSET', lease, 'rival', host, 'rival_until', expires)
      return has[3] or ''
    end
    instances = current == instance and has[2]
      or string.sub(instance .. ' ' .. (has[2] or ''), 1, MAX_INSTANCES)
  else
    note('serverCame', nil, nil, server, '{"hostname":' .. cjson.encode(host) .. '}')
  end
  redis.call('HSET', lease, 'holder', holder, 'instance', instances)
  redis.call('HSET', lease, 'host', host, 'expires', expires)
  redis.call('HSET', lease, 'lasts', milliseconds, 'renewed', integer(wall))
  redis.call('ZADD', key('expires'), expires, server)
  local longest = math.min(math.ceil(tonumber(milliseconds) / 4), LONGEST_STEP)
  redis.call('HSET', key('clock'), 'longest', integer(longest))
  return nil
end

local function rival(server)
  local has = redis.call('HMGET', key('lease:' .. server), 'rival', 'rival_until')
  return has[1] and (number(has[2]) or 0) > clock and has[1] or ''
end

-- What was last written of a server's sessions; this key has an older name.
local function edition_of(server)
  return redis.call('GET', key('view:' .. server))
end

local function is_unfinished(edition)
  return edition and string.sub(edition, -1) == UNFINISHED
end

local steps = {}

-- Takes the server, the edition that the caller compared with, a lease (empty: none), whether (1)
-- this is all or the last part of what the caller saw, and how many sessions have changed; for each
-- of those its id, login, digest, JSON before and after its params, the params it was started with,
-- its past, its place there, what its clients did, and what is said of them; then the ids of those that have ended. They are too many to be arguments of a function in
-- Lua.
function steps.observe(server, compared, holder, instance, host, milliseconds, is_last, count)
  advance()
  -- First: a renewed lease says that the sessions are what its agent has seen
  if (edition_of(server) or '') ~= compared then
    return { 'again' }
  end
  if holder ~= '' then
    local taken_by = claim(server, holder, instance, host, milliseconds)
    if taken_by then
      return { 'taken', taken_by }
    end
  end
  expire()
  local digests, gone_params = key('digests:' .. server), key('gone-params:' .. server)
  local edition = edition_of(server) -- without a lease of its own it may just have ended
  if (edition or '') ~= compared then
    return { 'again' }
  end
  local first_changed = FIRST + 8
  local first_ended = first_changed + count * 10
  for index = first_changed, first_ended - 1, 10 do
    local id, login, digest, before, after, initial, line, place, traffic, now_so =
      unpack(ARGV, index, index + 9)
    local is_back = redis.call('HEXISTS', key('gone:' .. server), id) == 1
    put_past(id, login, server, line, place, is_back, traffic, now_so)
    local params = redis.call('HGET', key('params'), id)
      or redis.call('HGET', gone_params, id)
      or initial
    local text = before .. params .. after
    redis.call('HSET', key('sessions'), id, text)
    redis.call('HSET', key('params'), id, params)
    redis.call('HSET', digests, id, digest .. ' ' .. login)
    append('s', id, 'd', text)
  end
  for index = first_ended, #ARGV do
    local id = ARGV[index]
    local login = string.match(redis.call('HGET', digests, id) or '', '^%S+ (.*)$') or ''
    end_past(id, login, server)
    redis.call('HDEL', digests, id)
    redis.call('HDEL', key('sessions'), id)
    redis.call('HDEL', key('params'), id)
    append('s', id, 'l', login, 'v', server)
  end
  if is_last == '1' then -- what did not come back has ended
    redis.call('DEL', key('gone:' .. server), gone_params)
    redis.call('ZREM', key('remembered'), server)
  end
  if not edition or #ARGV >= first_changed or is_unfinished(edition) then
    edition = is_last == '1' and name or name .. UNFINISHED
    redis.call('SET', key('view:' .. server), edition)
  end
  forget()
  return { 'ok', edition }
end

-- Takes the server, its lease, its JSON, and the edition that has to be there (empty: any).
function steps.heartbeat(server, holder, instance, host, milliseconds, text, edition)
  if edition ~= '' and (edition_of(server) or '') ~= edition then
    return { 'lost', '' }
  end
  advance()
  local taken_by = claim(server, holder, instance, host, milliseconds)
  if taken_by then
    return { 'taken', taken_by }
  end
  expire()
  redis.call('HSET', key('servers'), server, text)
  append('m', server, 'd', text)
  forget()
  return { 'ok', rival(server) }
end

-- Takes the session's JSON as the caller read it, and what it is to be; then whose it is, where,
-- and what is said of the change.
function steps.params(id, old, new, params, login, server, more)
  if redis.call('HGET', key('sessions'), id) ~= old then
    return 0
  end
  redis.call('HSET', key('sessions'), id, new)
  redis.call('HSET', key('params'), id, params)
  append('s', id, 'd', new)
  note('paramsSet', id, login, server, more)
  return 1
end

-- Takes the ids, servers, JSON and params of sessions that were in another store. Agents that run
-- write once more, and forget those of their own that have ended.
function steps.remember()
  local count = 0
  for index = FIRST, #ARGV, 4 do
    local id, server, text, params = unpack(ARGV, index, index + 3)
    local gone = key('gone:' .. server)
    if
      redis.call('HEXISTS', key('sessions'), id) == 0
      and redis.call('HSETNX', gone, id, text) == 1
    then
      redis.call('HSETNX', key('gone-params:' .. server), id, params)
      redis.call('ZADD', key('remembered'), 'NX', integer(clock), server)
      local edition = edition_of(server)
      if edition and not is_unfinished(edition) then
        redis.call('SET', key('view:' .. server), edition .. UNFINISHED)
      end
      count = count + 1
    end
  end
  return count
end

-- Takes the ids of tokens, each with when it expires; returns how many were not revoked for as long.
function steps.revoke()
  local count = 0
  for index = FIRST, #ARGV, 2 do
    local jti, expires = ARGV[index], ARGV[index + 1]
    if (number(redis.call('ZSCORE', key('revoked'), jti)) or -1) < tonumber(expires) then
      redis.call('ZADD', key('revoked'), expires, jti)
      append('j', jti, 'e', expires)
      local more = '{"token":' .. cjson.encode(jti) .. ',"expires":' .. expires .. '}'
      note('tokenRevoked', nil, nil, nil, more)
      count = count + 1
    end
  end
  return count
end

steps.note, steps.add_past = note_once, add_past
steps.erase_past, steps.erase_events = erase_past, erase_events
steps.events_of = events_of

-- Carries out what has run out; returns in how many milliseconds to look again.
function steps.end_leases()
  advance()
  expire()
  local again = (number(redis.call('HGET', key('clock'), 'longest')) or LONGEST_STEP) / 2
  local first = redis.call('ZRANGE', key('expires'), 0, 0, 'WITHSCORES')
  if first[2] then
    again = math.min(again, (number(first[2]) or clock) - clock)
  end
  return math.ceil(again)
end

-- Returns the head, and for each lease, also one that has run out: the server, a name of its last
-- renewal, for how many milliseconds it is, how many have passed since by the clock of the machine,
-- and whether (1) all sessions were written then. Writes nothing.
function steps.renewals()
  local found = { redis.call('GET', KEYS[1]) or '' }
  for _, server in ipairs(redis.call('ZRANGE', key('expires'), 0, -1)) do
    local has = redis.call('HMGET', key('lease:' .. server), 'lasts', 'renewed', 'expires')
    local lasts, renewed = number(has[1]), number(has[2])
    if lasts and lasts > 0 and renewed then -- else an older agent's
      table.insert(found, server)
      table.insert(found, has[2] .. ' ' .. (has[3] or ''))
      table.insert(found, integer(lasts))
      table.insert(found, integer(wall - renewed))
      table.insert(found, is_unfinished(edition_of(server)) and 0 or 1)
    end
  end
  return found
end

function steps.holder(server)
  local has = redis.call('HMGET', key('lease:' .. server), 'holder', 'host', 'expires')
  if not has[1] or (number(has[3]) or 0) <= clock then
    return {}
  end
  return { has[1], has[2] or '', rival(server) }
end

-- The ids and the JSON of a server's sessions: those that left with its lease, then those that run.
function steps.recall(server)
  local found = redis.call('HGETALL', key('gone:' .. server))
  for _, id in ipairs(redis.call('HKEYS', key('digests:' .. server))) do
    local text = redis.call('HGET', key('sessions'), id)
    if text then
      table.insert(found, id)
      table.insert(found, text)
    end
  end
  return found
end

return steps[operation](unpack(ARGV, FIRST, math.min(#ARGV, FIRST + 7)))
