import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBClient

/// A MongoDB URL, taken apart; no server is asked.
struct MongoURLTests {
    @Test func everyPart() throws {
        let url = try MongoURL(
            "mongodb://u:p%40ss@a.example:1,b.example,[::1]:3/shop?replicaSet=rs0&tls=true")
        #expect(url.hosts == ["a.example:1", "b.example:27017", "[::1]:3"])
        #expect(url.place == "a.example:1,b.example:27017,[::1]:3")
        #expect(url.isTLS)
        #expect(!url.isTLSWeak)
        let bare = try MongoURL("mongodb://localhost")
        #expect(!bare.isTLS)
    }

    @Test func aRecordOfTheNameServerIsNotAskedYet() throws {
        let url = try MongoURL("mongodb+srv://u:p@cluster.one.example/shop")
        #expect(url.hosts == ["cluster.one.example"])
        #expect(url.isTLS)
        #expect(url.tlsWarning(connection: "c") == nil)
    }

    @Test(
        arguments: [
            ("mongodb://localhost", nil), ("mongodb://LOCALHOST:1", nil),
            ("mongodb://127.0.0.1", nil),
            ("mongodb://127.1.2.3:5,[::1],%2Fvar%2Frun%2Fmongodb.sock", nil),
            ("mongodb://db.internal", "no TLS"), ("mongodb://localhost,db.internal", "no TLS"),
            ("mongodb://localhost.example.com", "no TLS"), ("mongodb://127.example.com", "no TLS"),
            ("mongodb://127.0.0.1.example.com", "no TLS"), ("mongodb://[::2]", "no TLS"),
            ("mongodb://[::1:2]", "no TLS"), ("mongodb://db.internal/?tls=false", "no TLS"),
            ("mongodb://db.internal/?tls=true", nil), ("mongodb://db.internal/?ssl=true", nil),
            ("mongodb://db.internal/?tls=true&tlsInsecure=true", "check"),
            ("mongodb://db.internal/?tls=true&tlsAllowInvalidCertificates=true", "check"),
            ("mongodb://db.internal/?tls=true&tlsAllowInvalidHostnames=true", "check"),
            ("mongodb://db.internal/?ssl=true&sslAllowInvalidHostnames=true", "check"),
            ("mongodb+srv://localhost.example.com/?tls=false", "no TLS"),
        ] as [(String, String?)])
    func whatIsNotVerifiedIsWarnedOfUnlessLocal(text: String, warning: String?) throws {
        let found = try MongoURL(text).tlsWarning(connection: "cms")
        #expect((found == nil) == (warning == nil), "\(found ?? "none")")
        if let warning {
            #expect(found?.contains(warning) == true, "\(found ?? "")")
            #expect(found?.contains("\"cms\"") == true)
        }
    }

    @Test(arguments: [
        "mongodb://weir:p@CANARY@127.0.0.1:1/shop", "mongodb://weir:27017/CANARY@127.0.0.1:1/shop",
        "mongodb://weir:/CANARY@h/shop", "mongodb+srv://weir:p/CANARY@a.b.c/shop",
    ])
    func aPasswordThatIsNotEscapedIsRefusedWithoutShowingAPart(text: String) throws {
        let issue = try #require(throws: ConfigIssue.self) { try MongoURL(text) }
        #expect(!"\(issue)".contains("CANARY"), "\(issue)")
    }

    @Test(arguments: [
        ("mongodb://localhost", false), ("mongodb://db.internal", true),
        ("mongodb://localhost,db.internal", true), ("mongodb://db.internal/?tls=true", false),
        ("mongodb://db.internal/?tls=true&tlsInsecure=true", false),
        ("mongodb+srv://a.b.c/?tls=false", true),
    ])
    func aServerAbroadWithoutTLSIsTold(text: String, isPlain: Bool) throws {
        #expect(try MongoURL(text).isPlainAbroad == isPlain)
    }

    @Test(arguments: [
        "", "mongodb://", "mongodb:/localhost", "postgres://localhost", "http://canary:canary@h/",
        "mongodb://canary:canary:canary@localhost", "mongodb://canary:can%ary@localhost",
        "mongodb://u:canary@localhost:99999", "mongodb://u:canary@localhost:port",
        "mongodb://u:canary@localhost/?tls=canary", "mongodb://u:canary@localhost/?replicaSet=",
        "mongodb://u:canary@localhost/?connectTimeoutMS=canary", "mongodb://u:canary@/db",
        "mongodb://u:canary@localhost/?tls=true&ssl=false",
        "mongodb://u:canary@localhost/?tlsInsecure=true&tlsAllowInvalidHostnames=true",
        "mongodb+srv://u:canary@localhost", "mongodb+srv://u:canary@a.b.c:27017",
        "mongodb+srv://u:canary@a.b.c,d.e.f", "mongodb://u:canary@a.b/?directConnection=true,x",
        "mongodb://u:canary@a,b/?directConnection=true", "mongodb://%zz:canary@localhost",
    ])
    func aURLThatIsNoneIsRefusedWithoutShowingIt(text: String) {
        let issue = #expect(throws: ConfigIssue.self) { try MongoURL(text) }
        #expect(issue?.message.hasPrefix("not a MongoDB connection URL") == true)
        #expect(issue?.message.contains("canary") == false)
    }

    @Test(arguments: 0..<8)
    func randomTextNeverTrapsNorShowsThePassword(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let pieces = [
            "mongodb://", "mongodb+srv://", "u:WEIRCANARY@", "localhost", ":27017", ":", "@", "/",
            "?", "&", "=", "%", "%00", "%41", ",", "[::1]", "é", "\u{0}", "\n", "\"", "'", " ",
            "tls=true", "replicaSet=rs", "authSource=$external", "readPreferenceTags=a:b",
            "authMechanismProperties=A:WEIRCANARY", "a.b.c", "maxPoolSize=-1", "\u{7F}", "😀",
            "appName=", "compressors=zlib", "retryWrites=maybe",
        ]
        for _ in 0..<500 {
            var text = random.below(3) == 0 ? "" : "mongodb://u:WEIRCANARY@localhost/?"
            for _ in 0..<random.below(12) { text += pieces[random.below(pieces.count)] }
            do {
                let url = try MongoURL(text)
                #expect(!url.place.contains("WEIRCANARY@"), "seed \(seed): \(text)")
                _ = url.tlsWarning(connection: "c")
            } catch {
                #expect(!"\(error)".contains("WEIRCANARY"), "seed \(seed): \(text): \(error)")
            }
        }
    }

    @Test(arguments: [
        ("mongodb://h", []), ("mongodb://h/?tls=true&replicaSet=rs0", []),
        (
            "mongodb://h/d?readPreference=secondary&readPreferenceTags=a:b&w=majority"
                + "&authSource=admin&appName=a&retryWrites=true&maxPoolSize=5&ssl=true"
                + "&readConcernLevel=local&journal=true&socketTimeoutMS=5&compressors=zlib"
                + "&tlsCAFile=/ca&zlibCompressionLevel=3&maxStalenessSeconds=90", []
        ),
        ("mongodb://h/?tsl=true", [#""tsl""#]),
        ("mongodb://h/?tls=true&uuidRepresentation=standard", [#""uuidRepresentation""#]),
    ])
    func optionsTheDriverDoesNotKnowAreNamed(text: String, names: [String]) throws {
        let url = try MongoURL(text)
        #expect(url.unknownOptions == names)
        let warning = url.optionsWarning(connection: "cms")
        #expect((warning == nil) == names.isEmpty)
        for name in names { #expect(warning?.contains("have no effect: \(name)") == true) }
    }
}
