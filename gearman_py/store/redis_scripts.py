"""What Redis does for us as a whole, in Lua.

At its memory limit, Redis refuses a script whose first write is a command that may need more
memory, but lets a script that has begun to write go on. So scripts that must always work (beats,
removals, successions) begin by removing nothing (ROOM), and those that add jobs or rewrite them do
not.

In all scripts ARGV[1] is the prefix of our keys.
"""

ROOM = """
redis.call('HDEL', ARGV[1] .. 'room', '')
"""
ENROL = (
    ROOM
    + """
local base, number = ARGV[1]
repeat  -- 'last' may have been deleted
    number = redis.call('INCR', base .. 'last')
until redis.call('EXISTS', base .. 'shelf:' .. number, base .. 'jobs:' .. number) == 0
for other = math.max(1, number - 10000), number - 1 do  -- 'shelves' may have been deleted
    if redis.call('EXISTS', base .. 'shelf:' .. other, base .. 'jobs:' .. other) > 0 then
        redis.call('SADD', base .. 'shelves', other)
    end
end
redis.call('HSET', ARGV[1] .. 'shelf:' .. number,
           'prefix', ARGV[2], 'keeper', number, 'beats', 0, 'ended', 0)
redis.call('SADD', ARGV[1] .. 'shelves', number)
return number
"""
)
BEAT = """
local base, mine, before = ARGV[1], ARGV[2], ARGV[3]
local there = redis.call('HMGET', base .. 'shelf:' .. mine, 'keeper', 'beats')
if there[1] ~= mine or there[2] ~= before then return 0 end
redis.call('HSET', base .. 'shelf:' .. mine, 'beats', ARGV[4])
"""
WRITE = (
    BEAT
    + """
local at = 5
local function each(width, change)
    local count = tonumber(ARGV[at])
    at = at + 1
    for _ = 1, count do
        change(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
        at = at + width
    end
end
local function remove(shelf, number)
    redis.call('HDEL', base .. 'jobs:' .. shelf, number)
    redis.call('HDEL', base .. 'tries:' .. shelf, number)
end
each(1, function(number) remove(mine, number) end)
each(2, function(number, job) redis.call('HSET', base .. 'jobs:' .. mine, number, job) end)
each(3, function(shelf, number, count)
    if redis.call('HEXISTS', base .. 'jobs:' .. shelf, number) == 1 then
        redis.call('HSET', base .. 'tries:' .. shelf, number, count)
    end
end)
each(2, remove)
each(4, function(shelf, number, job, count)
    redis.call('HSET', base .. 'jobs:' .. shelf, number, job)
    redis.call('HSET', base .. 'tries:' .. shelf, number, count)
end)
return 1
"""
)
# Of each shelf its number, and names and values in turn; of those in ARGV, or else of all.
LIST = """
local found, asked = {}, {unpack(ARGV, 2)}
if #asked == 0 then asked = redis.call('SMEMBERS', ARGV[1] .. 'shelves') end
for _, shelf in ipairs(asked) do
    if string.match(shelf, '^%d+$') then
        local facts = redis.pcall('HGETALL', ARGV[1] .. 'shelf:' .. shelf)
        if facts.err then facts = {'WRONGTYPE'} end
        if #facts > 0 then  -- otherwise it was just cleared, or deleted
            table.insert(facts, 1, shelf)
            table.insert(found, facts)
        end
    end
end
return found
"""
TAKE = (
    ROOM
    + BEAT
    + """
local number, keeper, beats = ARGV[5], ARGV[6], ARGV[7]
there = redis.call('HMGET', base .. 'shelf:' .. number, 'keeper', 'beats')
if there[1] ~= keeper or there[2] ~= beats then return 1 end
if keeper ~= number and redis.call('EXISTS', base .. 'shelf:' .. keeper) == 1 then return 1 end
redis.call('HSET', base .. 'shelf:' .. number, 'keeper', mine)
for _, shelf in ipairs(redis.call('SMEMBERS', base .. 'shelves')) do
    local key = base .. 'shelf:' .. shelf
    if redis.pcall('HGET', key, 'keeper') == number then redis.call('HSET', key, 'keeper', mine) end
end
return 1
"""
)
READ = """
local base, shelf, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found, size = {}, 0
for at = 4, #ARGV do
    local job = redis.call('HGET', base .. 'jobs:' .. shelf, ARGV[at]) or ''
    table.insert(found, {job, redis.call('HGET', base .. 'tries:' .. shelf, ARGV[at]) or '0'})
    size = size + #job
    if size > most then break end
end
return found
"""
SET_ASIDE = (
    ROOM
    + """
local jobs = ARGV[1] .. 'jobs:'
for at = 3, #ARGV do
    local job = redis.call('HGET', jobs .. ARGV[2], ARGV[at])
    if job then
        redis.call('HSET', jobs .. '-' .. ARGV[2], ARGV[at], job)
        redis.call('HDEL', jobs .. ARGV[2], ARGV[at])
    end
end
return 1
"""
)
LEAVE = (
    ROOM
    + """
redis.call('HSET', ARGV[1] .. 'shelf:' .. ARGV[2], 'ended', 1)
return 1
"""
)
CLEAR = """
local base, shelf = ARGV[1], ARGV[2]
if redis.call('EXISTS', base .. 'jobs:' .. shelf) == 1 then return 0 end
redis.call('DEL', base .. 'shelf:' .. shelf, base .. 'tries:' .. shelf)
redis.call('SREM', base .. 'shelves', shelf)
return 1
"""


MISSING = """
local found = {}
for _, shelf in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'shelves')) do
    if redis.call('EXISTS', ARGV[1] .. 'shelf:' .. shelf) == 0
        and redis.call('EXISTS', ARGV[1] .. 'jobs:' .. shelf) == 1 then
        table.insert(found, tonumber(shelf))
    end
end
return found
"""
RESTORE = (
    ROOM
    + """
local key = ARGV[1] .. 'shelf:' .. ARGV[2]
if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, 'prefix', ARGV[3], 'keeper', ARGV[4], 'beats', 0, 'ended', 0)
return 1
"""
)
