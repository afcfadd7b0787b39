/// The scripts the sink runs. One call takes many keys: the values' keys first, then the side key
/// of each in the same order, so that Redis Cluster and key patterns of an ACL see all of them.
///
/// What a side key holds; VERSION is 32 digits or more, all zero where Weir has not written:
///
///     VERSION          the value is of this change
///     VERSION!         deleted by this change: a tombstone
///     VERSION-ms-token a service has a lease until that time to put back a value that is missing
///     VERSION+         that service put it back
///
/// They are compared as text. Two versions that differ do so at a digit that both have, whatever
/// the server's locale thinks of other characters; as numbers they would be doubles and lose the
/// low digits.
///
/// A script that fails half-way is not undone: an ACL may refuse any one of its commands, at any
/// key. So the side key of a version is written last. As long as it does not have the version, the
/// event counts as not delivered, and comes again; every command before it may run twice.
///
/// A server that is out of memory refuses a script only at its first write, and only where that is
/// a command that may need memory: UNLINK and HDEL are none, and behind them it takes everything.
/// So a script that stores values begins with `ask`, a SET that can change nothing: NX where the
/// key is there, XX where it is not. A call that only removes keys is taken: it makes room.
///
/// Several keys of one call share a lifetime: LIVES is up to eight pairs, of milliseconds a value
/// lives and its side key lives, taken in turn. Strings cost a script more than anything else.
enum CacheScript: CaseIterable {
    /// Tombstone's milliseconds, LIVES; per key: side key's text, value. Returns how many keys were
    /// refused because they have a version of a later epoch.
    case set
    /// The same without LIVES, for values that live for ever.
    case setForever
    /// Tombstone's milliseconds, LIVES or two times 0; per key: side key's text, `whole` or `part`,
    /// the number of arguments that follow, field and value in turn; the number of fields that are
    /// null, their names. A whole row replaces the hash; a part changes one that exists. Returns
    /// what `set` does, then the places, from 1, of parts whose hash is missing: those rows must
    /// come whole.
    case hash
    /// Milliseconds during which no lease is given, and the channel to publish each key on, or
    /// nothing. There is no version: what fails comes again, all of it. The lease goes first: what
    /// a service read before must not come after, even if the rest is refused.
    case invalidate
    /// Version, what the side keys become, and their milliseconds. Deletes what is older than the
    /// version; what has no side key was never Weir's and stays. Returns how many that were.
    case sweep
    /// Keys: the marker and its copy. Its new text and the version it must have at least. It only
    /// goes forward, because writes of a life that was cut short may come late; and a marker that
    /// is missing or too old stays so until what was lost is back. Returns what the two were.
    case mark
    /// Keys as of `mark`. The marker's text that must be there, in either, and the new one. Returns
    /// 1 if it was replaced.
    case replace
    /// The names of commands. Tries them at a key of the sink's own, which ends at once, and
    /// returns those that the user may not run. With no names it touches nothing, and only shows
    /// that the user may access the keys.
    case rights

    static let livesMax = 8

    var text: String {
        switch self {
        case .set: Self.setText
        case .setForever: Self.setForeverText
        case .hash: Self.hashText
        case .invalidate: Self.invalidateText
        case .sweep: Self.sweepText
        case .mark: Self.markText
        case .replace: Self.replaceText
        case .rights: Self.rightsText
        }
    }

    /// `ask`, for scripts that store values, and `askIfMore`, which asks only where values follow
    /// behind keys that are removed.
    ///
    /// - Parameter stride: the arguments of a key that is removed.
    private static func asking(stride: Int) -> String {
        """
        local asked = false
        local function ask()
          if asked then return end
          asked = true
          call('SET', KEYS[n + 1], '', seen[1] and 'NX' or 'XX')
        end
        local function askIfMore(a)
          while not asked and a <= #ARGV do
            if string.byte(ARGV[a], -1) ~= 33 then return ask() end
            a = a + \(stride)
          end
        end
        """
    }

    private static let setText = """
        local call, KEYS, ARGV = redis.call, KEYS, ARGV
        local n = #KEYS / 2
        local lives = n < 8 and n or 8
        local seen = call('MGET', unpack(KEYS, n + 1))
        local a, foreign = 2 + 2 * lives, 0
        \(asking(stride: 2))
        for i = 1, n do
          local side = ARGV[a]
          local old = seen[i]
          if not old or old < side then
            if string.byte(side, -1) == 33 then
              askIfMore(a + 2)
              call('UNLINK', KEYS[i])
              call('PSETEX', KEYS[n + i], ARGV[1], side)
            else
              asked = true
              local life = 2 * (i % lives)
              call('PSETEX', KEYS[i], ARGV[2 + life], ARGV[a + 1])
              call('PSETEX', KEYS[n + i], ARGV[3 + life], side)
            end
          elseif string.sub(old, 1, 8) > string.sub(side, 1, 8) then
            foreign = foreign + 1
          end
          a = a + 2
        end
        return foreign
        """

    private static let setForeverText = """
        local call, KEYS, ARGV = redis.call, KEYS, ARGV
        local n = #KEYS / 2
        local seen = call('MGET', unpack(KEYS, n + 1))
        local a, set, m, foreign = 2, {}, 0, 0
        \(asking(stride: 2))
        local function flush()
          if m > 0 then
            asked = true
            call('MSET', unpack(set, 1, m))
          end
          m = 0
        end
        for i = 1, n do
          local side = ARGV[a]
          local old = seen[i]
          if not old or old < side then
            if string.byte(side, -1) == 33 then
              flush()
              askIfMore(a + 2)
              call('UNLINK', KEYS[i])
              call('PSETEX', KEYS[n + i], ARGV[1], side)
            else
              set[m + 1], set[m + 2], set[m + 3], set[m + 4] =
                KEYS[i], ARGV[a + 1], KEYS[n + i], side
              m = m + 4
            end
          elseif string.sub(old, 1, 8) > string.sub(side, 1, 8) then
            foreign = foreign + 1
          end
          a = a + 2
        end
        flush()
        return foreign
        """

    private static let hashText = """
        local call, KEYS, ARGV = redis.call, KEYS, ARGV
        local n = #KEYS / 2
        local lives = n < 8 and n or 8
        local seen = call('MGET', unpack(KEYS, n + 1))
        local a, result = 2 + 2 * lives, {0}
        \(asking(stride: 4))
        for i = 1, n do
          local side, form = ARGV[a], ARGV[a + 1]
          local first = a + 3
          local count = tonumber(ARGV[a + 2])
          local nulls = tonumber(ARGV[first + count])
          local firstNull = first + count + 1
          a = firstNull + nulls
          local key, old = KEYS[i], seen[i]
          if old and not (old < side) then
            if string.sub(old, 1, 8) > string.sub(side, 1, 8) then
              result[1] = result[1] + 1
            end
          elseif string.byte(side, -1) == 33 then
            askIfMore(a)
            call('UNLINK', key)
            call('PSETEX', KEYS[n + i], ARGV[1], side)
          elseif form == 'part' and call('TYPE', key).ok ~= 'hash' then
            local bare = old and string.match(old, '^%x+')
            if bare and bare ~= old then
              call('PSETEX', KEYS[n + i], ARGV[1], bare)
            end
            result[#result + 1] = i
          else
            ask()
            local life = 2 * (i % lives)
            if form == 'whole' then
              call('UNLINK', key)
            elseif nulls > 0 then
              call('HDEL', key, unpack(ARGV, firstNull, firstNull + nulls - 1))
            end
            if count > 0 then
              call('HSET', key, unpack(ARGV, first, first + count - 1))
            end
            if ARGV[2] ~= '0' then
              call('PEXPIRE', key, ARGV[2 + life])
              call('PSETEX', KEYS[n + i], ARGV[3 + life], side)
            else
              call('PERSIST', key)
              call('SET', KEYS[n + i], side)
            end
          end
        end
        return result
        """

    private static let invalidateText = """
        local call, KEYS = redis.call, KEYS
        local n = #KEYS / 2
        local hold, channel = ARGV[1], ARGV[2]
        local side = string.rep('0', 32) .. '!'
        for i = 1, n do
          if hold == '0' then
            call('UNLINK', KEYS[n + i])
          else
            call('PSETEX', KEYS[n + i], hold, side)
          end
          call('UNLINK', KEYS[i])
          if channel ~= '' then
            call('PUBLISH', channel, KEYS[i])
          end
        end
        return n
        """

    private static let sweepText = """
        local call, KEYS = redis.call, KEYS
        local n = #KEYS / 2
        local seen = call('MGET', unpack(KEYS, n + 1))
        local removed = 0
        for i = 1, n do
          local old = seen[i]
          if old and old < ARGV[1] and not string.find(old, '^%x+!$') then
            call('UNLINK', KEYS[i])
            call('PSETEX', KEYS[n + i], ARGV[3], ARGV[2])
            removed = removed + 1
          end
        end
        return removed
        """

    private static let markText = """
        local was, copy = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
        if was and not (was < ARGV[2]) then
          local new = was
          if was < ARGV[1] then
            new = ARGV[1]
            redis.call('SET', KEYS[1], new)
          end
          if copy ~= new then redis.call('SET', KEYS[2], new) end
        end
        return {was, copy}
        """

    /// What it leaves, whichever of the commands are refused, ends after a millisecond.
    private static let rightsText = """
        local key, refused = KEYS[1], {}
        if ARGV[1] == '' then return refused end
        local function try(name, ...)
          local reply = redis.pcall(name, ...)
          local text = type(reply) == 'table' and reply.err
          if text and (string.find(text, 'NOPERM', 1, true) or string.find(text, "can't run", 1, true)
              or string.find(text, "can't access", 1, true)) then
            refused[#refused + 1] = name
          end
        end
        local commands = ' ' .. ARGV[1] .. ' '
        local function wants(name) return string.find(commands, ' ' .. name .. ' ', 1, true) end
        if wants('mget') then try('mget', key) end
        if wants('type') then try('type', key) end
        if wants('set') then try('set', key, '', 'PX', 1) end
        if wants('psetex') then try('psetex', key, 1, '') end
        if wants('unlink') then try('unlink', key) end
        if wants('hset') then try('hset', key, 'f', '') end
        if wants('pexpire') then try('pexpire', key, 1) end
        if wants('persist') then try('persist', key) end
        if wants('hdel') then try('hdel', key, 'f') end
        if wants('mset') then try('mset', key, '') end
        redis.pcall('set', key, '', 'PX', 1)
        if wants('unlink') then redis.pcall('unlink', key) end
        return refused
        """

    private static let replaceText = """
        local was = redis.call('GET', KEYS[1]) or redis.call('GET', KEYS[2])
        if was ~= ARGV[1] then return 0 end
        redis.call('SET', KEYS[1], ARGV[2])
        redis.call('SET', KEYS[2], ARGV[2])
        return 1
        """
}
