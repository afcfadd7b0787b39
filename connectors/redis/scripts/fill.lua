-- Puts back a value that was read from the database under a lease, unless Weir wrote or deleted the
-- key meanwhile.
-- KEYS: the key, its side key. ARGV: the token, how long the value lives in milliseconds (0: for
-- ever), then the value, or for a hash each field and its value.
-- Returns 1 if it was stored, 0 if the lease is no longer valid.
local side = redis.call('GET', KEYS[2])
if not side then return 0 end
local version, token = string.match(side, '^(%x*)%-%d+%-(.*)$')
if token ~= ARGV[1] then return 0 end
if #ARGV == 3 then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
end
local ttl = tonumber(ARGV[2])
local left = redis.call('PTTL', KEYS[2])
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl) end
if ttl == 0 or left == -1 then
  redis.call('SET', KEYS[2], version .. '+')
else
  redis.call('SET', KEYS[2], version .. '+', 'PX', math.max(left, ttl + 60000))
end
return 1
