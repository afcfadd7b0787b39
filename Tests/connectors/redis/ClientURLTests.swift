import Testing
import WeirCore
import WeirRedisClient

struct ClientURLTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let url: String
        let place: String
        var username: String?
        var password: String?
        var isTLS = false
        var isLocal = false
        var protocolVersion = 2

        var testDescription: String { url }
    }

    @Test(arguments: [
        Case(url: "redis://cache", place: "cache:6379/0"),
        Case(url: "redis://cache/", place: "cache:6379/0"),
        Case(url: "REDIS://Cache.internal:7000/15", place: "Cache.internal:7000/15"),
        Case(url: "rediss://cache:6380/2", place: "cache:6380/2", isTLS: true),
        Case(url: "redis://:pw@cache", place: "cache:6379/0", password: "pw"),
        Case(url: "redis://weir@cache", place: "cache:6379/0", username: "weir"),
        Case(url: "redis://weir:@cache", place: "cache:6379/0", username: "weir"),
        Case(
            url: "redis://we%3Air:p%40s%2Fs%23%25%c3%a9@cache:1/3?protocol=3",
            place: "cache:1/3", username: "we:ir", password: "p@s/s#%é", protocolVersion: 3),
        Case(
            url: "redis://u:a:b%40c@cache", place: "cache:6379/0", username: "u", password: "a:b@c"),
        Case(url: "redis://localhost:65535", place: "localhost:65535/0", isLocal: true),
        Case(url: "redis://127.1.2.3?protocol=2", place: "127.1.2.3:6379/0", isLocal: true),
        Case(url: "redis://127.evil.example", place: "127.evil.example:6379/0"),
        Case(url: "redis://10.0.0.1", place: "10.0.0.1:6379/0"),
        Case(url: "redis://[::1]", place: "[::1]:6379/0", isLocal: true),
        Case(url: "redis://[0:0::1]:1", place: "[0:0::1]:1/0", isLocal: true),
        Case(
            url: "rediss://u:p@[2001:db8::1]:6380/4", place: "[2001:db8::1]:6380/4",
            username: "u", password: "p", isTLS: true),
        Case(url: "unix:///run/redis.sock", place: "/run/redis.sock?db=0", isLocal: true),
        Case(
            url: "unix://u:p@/run/re%20dis?db=3&protocol=3", place: "/run/re dis?db=3",
            username: "u", password: "p", isLocal: true, protocolVersion: 3),
    ])
    func aURLIsTakenApart(_ expected: Case) throws {
        let url = try RedisURL(expected.url)
        #expect(url.place == expected.place)
        #expect(url.username == expected.username)
        #expect(url.password?.reveal() == expected.password)
        #expect(url.isTLS == expected.isTLS)
        #expect(url.isLocal == expected.isLocal)
        #expect(url.protocolVersion == expected.protocolVersion)
        for word in [url.username, url.password?.reveal()].compactMap(\.self) where word != "u" {
            #expect(!"\(url)".contains(word))
        }
    }

    @Test func hostPortAndDatabaseAreApart() throws {
        let url = try RedisURL("rediss://[::1]:6380/7")
        #expect(url.host == "::1")
        #expect(url.port == 6380)
        #expect(url.database == 7)
        let socket = try RedisURL("unix:///run/redis?db=7")
        #expect(socket.host == "/run/redis")
        #expect(socket.port == nil)
        #expect(socket.database == 7)
    }

    /// The message has the second text in it; none has the word "hush".
    @Test(
        arguments: [
            ("", "does not begin with", nil),
            ("cache:6379", "does not begin with", nil),
            ("http://cache", "does not begin with", nil),
            ("redis:/hush@cache", "does not begin with", nil),
            ("rediss//:hush@cache", "does not begin with", nil),
            ("redi://:hush@cache", "does not begin with", "redis://"),
            ("redis+ssl://:hush@cache", "does not begin with", "rediss://"),
            ("redis://:hush@cache\n", "blank", nil),
            ("redis://:hu sh@cache", "blank", nil),
            ("redis://:hush/x@cache", "%2F", nil),
            ("redis://:hush?x@cache", "%3F", nil),
            ("redis://:hush#x@cache", "%23", nil),
            ("redis://u:hu@sh@cache", "%40", nil),
            ("rediss://hu@sh:pw@cache:6379/0", "%40", nil),
            ("unix://u:hu@sh@/run/redis", "%40", nil),
            ("redis://:hush@cache#x", "fragment", nil),
            ("redis://:hush%2@cache", "percent-encoded", nil),
            ("redis://:hush%zz@cache", "percent-encoded", nil),
            ("redis://hush%ff:p@cache", "percent-encoded", nil),
            ("redis://:hush", "no host", nil),
            ("redis://", "no host", nil),
            ("redis://:hush@", "no host", nil),
            ("redis:///1", "no host", nil),
            ("redis://:hush@a,b", "one host name", nil),
            ("redis://:hush@a%20b", "one host name", nil),
            ("redis://cache:0", "port", nil),
            ("redis://cache:65536", "port", nil),
            ("redis://cache:+1", "port", nil),
            ("redis://cache:", "port", nil),
            ("redis://:hush@a:b:c", "port", nil),
            ("redis://:hush@::1", "no host", nil),
            ("redis://[::1", "closing bracket", nil),
            ("redis://[hush]", "IPv6", nil),
            ("redis://[127.0.0.1]", "IPv6", nil),
            ("redis://[::1]x", "IPv6", nil),
            ("redis://cache/x", "database", nil),
            ("redis://cache/-1", "database", nil),
            ("redis://cache/1/2", "database", nil),
            ("redis://cache/99999999999999999999", "database", nil),
            ("redis://cache?protocl=3", "\"protocl\"", "protocol"),
            ("redis://cache?timeout=hush", "\"timeout\"", nil),
            ("redis://cache?tls=insecure", "\"tls\"", nil),
            ("redis://cache?db=1", "\"db\"", nil),
            ("redis://cache?protocol=3&protocol=3", "twice", nil),
            ("redis://cache?protocol=4", "neither 2 nor 3", nil),
            ("redis://cache?protocol", "neither 2 nor 3", nil),
            ("unix://run/redis", "absolute path", nil),
            ("unix:///", "absolute path", nil),
            ("unix:///run/redis?password=hush", "\"password\"", nil),
            ("unix:///run/redis?db=hush", "database", nil),
        ] as [(String, String, String?)])
    func aFaultyURLIsRefused(url: String, message: String, suggestion: String?) throws {
        let issue = try #require(throws: ConfigIssue.self) { try RedisURL(url) }
        #expect(issue.field == "url")
        #expect(issue.message.contains(message), "\(issue.message)")
        #expect(issue.suggestion == suggestion)
        #expect(!"\(issue)".contains("hush"))
    }

    @Test func theCredentialsOfTheOptionsWinAndNeverShow() throws {
        var options = RedisOptions(url: try RedisURL("redis://u:inurl@cache"))
        options.password = Secret("inoptions", origin: "test")
        var dumped = "\(options)"
        dump(options.url.password, to: &dumped)
        #expect(!"\(options)".contains("inurl"))
        #expect(!"\(options)".contains("inoptions"))
    }
}
