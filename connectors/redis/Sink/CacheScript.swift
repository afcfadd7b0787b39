/// The scripts the sink runs. One call takes many keys: the values' keys first, then the side key
/// of each in the same order, so that Redis Cluster and key patterns of an ACL see all of them.
///
/// What a side key holds:
///
///     VERSION          the value is of this change
///     VERSION!         deleted by this change: a tombstone
///     VERSION-ms-token a service has a lease until that time to put back a value that is missing
///     VERSION+         that service put it back
///
/// VERSION may be empty where Weir has not written the key. Only its digits are compared, as text:
/// nothing else of Lua's collation matters, and numbers would be doubles.
enum CacheScript: String, CaseIterable {
    /// Per key: version, milliseconds the side key lives (0: for ever), milliseconds the value
    /// lives (0: for ever; empty: delete it), value. Returns how many were newer.
    case set = """
        local n = #KEYS / 2
        local call = redis.call
        local seen = call('MGET', unpack(KEYS, n + 1))
        local a, newer = 1, 0
        for i = 1, n do
          local version, keep, ttl = ARGV[a], ARGV[a + 1], ARGV[a + 2]
          if not seen[i] or string.match(seen[i], '^%x*') < version then
            local side = version
            if ttl == '' then
              call('UNLINK', KEYS[i])
              side = version .. '!'
            elseif ttl == '0' then
              call('SET', KEYS[i], ARGV[a + 3])
            else
              call('PSETEX', KEYS[i], ttl, ARGV[a + 3])
            end
            if keep == '0' then
              call('SET', KEYS[n + i], side)
            else
              call('PSETEX', KEYS[n + i], keep, side)
            end
            newer = newer + 1
          end
          a = a + 4
        end
        return newer
        """

    /// Per key: version, side key's and value's milliseconds as in `set`, `whole` or `part`, the
    /// number of arguments that follow, field and value in turn; the number of fields that are
    /// null, their names. A whole row replaces the hash; a part changes one that exists. Returns
    /// the places, from 1, of parts whose hash is missing: those rows must come whole.
    case hash = """
        local n = #KEYS / 2
        local call = redis.call
        local seen = call('MGET', unpack(KEYS, n + 1))
        local a, missing = 1, {}
        for i = 1, n do
          local version, keep, ttl, form = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
          local first = a + 5
          local count = tonumber(ARGV[a + 4])
          local nulls = tonumber(ARGV[first + count])
          local firstNull = first + count + 1
          a = firstNull + nulls
          if not seen[i] or string.match(seen[i], '^%x*') < version then
            local key, side = KEYS[i], version
            if form == 'part' and call('TYPE', key).ok ~= 'hash' then
              missing[#missing + 1] = i
            else
              if ttl == '' then
                call('UNLINK', key)
                side = version .. '!'
              else
                if form == 'whole' then
                  call('UNLINK', key)
                elseif nulls > 0 then
                  call('HDEL', key, unpack(ARGV, firstNull, firstNull + nulls - 1))
                end
                if count > 0 then
                  call('HSET', key, unpack(ARGV, first, first + count - 1))
                end
                if ttl ~= '0' then
                  call('PEXPIRE', key, ttl)
                elseif form == 'part' then
                  call('PERSIST', key)
                end
              end
              if keep == '0' then
                call('SET', KEYS[n + i], side)
              else
                call('PSETEX', KEYS[n + i], keep, side)
              end
            end
          end
        end
        return missing
        """

    /// Milliseconds during which no lease is given, and the channel to publish each key on, or
    /// nothing. The lease goes first: what a service read before must not come after.
    case invalidate = """
        local n = #KEYS / 2
        local call = redis.call
        local hold, channel = ARGV[1], ARGV[2]
        for i = 1, n do
          if hold == '0' then
            call('UNLINK', KEYS[n + i])
          else
            call('PSETEX', KEYS[n + i], hold, '!')
          end
          call('UNLINK', KEYS[i])
          if channel ~= '' then
            call('PUBLISH', channel, KEYS[i])
          end
        end
        return n
        """

    /// The marker's new text. It only goes forward: writes of a life that was cut short may come
    /// late. Returns what it was.
    case mark = """
        local was = redis.call('GET', KEYS[1])
        if not was or string.match(was, '^%x*') < string.match(ARGV[1], '^%x*') then
          redis.call('SET', KEYS[1], ARGV[1])
        end
        return was
        """

    /// Version, what the side keys become, and their milliseconds. Deletes what is older than the
    /// version and has a side key, so what Weir never governed stays. Returns how many that were.
    case sweep = """
        local n = #KEYS / 2
        local call = redis.call
        local seen = call('MGET', unpack(KEYS, n + 1))
        local removed = 0
        for i = 1, n do
          if seen[i] and string.match(seen[i], '^%x*') < ARGV[1] then
            call('UNLINK', KEYS[i])
            call('PSETEX', KEYS[n + i], ARGV[3], ARGV[2])
            removed = removed + 1
          end
        end
        return removed
        """
}
