-- A service that misses a key asks for a lease before it reads its database.
-- KEYS: the key, its side key. ARGV: a random token, how long the lease lasts in milliseconds.
-- Returns 1: read the database and fill. 0: read the database and do not fill, because the key is
-- there again, or another has the lease, or the row was deleted.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local side = redis.call('GET', KEYS[2]) or string.rep('0', 32)
local version, state = string.match(side, '^(%x*)(.*)$')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if state == '!' then return 0 end
local held = tonumber(string.match(state, '^%-(%d+)%-'))
if held and now < held then return 0 end
local left = redis.call('PTTL', KEYS[2])
local value = version .. '-' .. string.format('%d', now + ARGV[2]) .. '-' .. ARGV[1]
if left == -1 then
  redis.call('SET', KEYS[2], value)
else
  redis.call('SET', KEYS[2], value, 'PX', math.max(left, tonumber(ARGV[2])))
end
return 1
