import Foundation
import Glibc
import Testing
import WeirConfig
import WeirCore

@Suite struct SecretTests {
    private func url(
        _ json: String, _ environment: ConfigEnvironment, fileMode: UInt32? = nil
    ) -> (secret: Secret?, outcome: ConfigCheck) {
        let text = file(connection: #""type": "shopdb", "url": "# + json)
        let outcome = check(text, environment, fileMode: fileMode)
        let config = outcome.configuration?.pipelines.first?.source.config as? ShopConfig
        return (config?.url, outcome)
    }

    private func message(_ json: String, _ environment: ConfigEnvironment = .fake()) -> String? {
        url(json, environment).outcome.errors.first.map { "\($0.code): \($0.message)" }
    }

    @Test func secretsComeFromVariablesFilesAndCredentials() {
        let environment = ConfigEnvironment.fake(
            ["A": "a://x", "CREDENTIALS_DIRECTORY": "/run/credentials/weir"],
            files: [
                "/s/lf": Array("b://x\n".utf8), "/s/crlf": Array("c://x\r\n".utf8),
                "/s/two": Array("d://x\n\n".utf8), "/run/credentials/weir/id": Array("e://x".utf8),
            ])
        func found(_ json: String) -> String {
            let secret = url(json, environment).secret
            return "\(secret?.reveal() ?? "none") from \(secret?.origin ?? "nowhere")"
        }
        #expect(found(#"{ "env": "A" }"#) == "a://x from env A")
        #expect(found(#"{ "file": "/s/lf" }"#) == "b://x from file /s/lf")
        #expect(found(#"{ "file": "/s/crlf" }"#) == "c://x from file /s/crlf")
        #expect(found(#"{ "file": "/s/two" }"#) == "d://x\n from file /s/two", "one line break")
        #expect(found(#"{ "credential": "id" }"#) == "e://x from credential id")
        #expect(found(#""f://x""#) == "f://x from the configuration file")
    }

    @Test func anUnavailableSecretSaysWhatIsMissing() {
        let environment = ConfigEnvironment.fake(
            ["E": ""], files: ["/empty": [0x0A], "/latin": [0xE9], "/nul": [0x61, 0]])
        func fault(_ json: String) -> String? { message(json, environment) }
        let code = "config.secret_unavailable: "
        #expect(fault(#"{ "env": "X" }"#) == code + #"environment variable "X" is not set"#)
        #expect(fault(#"{ "env": "E" }"#) == code + #"environment variable "E" is empty"#)
        #expect(
            fault(#"{ "file": "/no" }"#)
                == code + #"could not read "/no": No such file or directory"#)
        #expect(fault(#"{ "file": "/empty" }"#) == code + #"the file "/empty" is empty"#)
        #expect(fault(#"{ "file": "/latin" }"#) == code + #"the file "/latin" is not UTF-8"#)
        #expect(fault(#"{ "file": "/nul" }"#) == code + #"the file "/nul" contains U+0000"#)
        #expect(
            fault(#"{ "credential": "c" }"#)
                == code + #"there is no credential "c": CREDENTIALS_DIRECTORY is not set"#)
    }

    @Test func aMisshapenSecretIsRefused() {
        #expect(message("{}")?.contains(#"exactly one of "env", "file" and "credential""#) == true)
        #expect(message(#"{ "env": "A", "file": "b" }"#)?.contains("exactly one of") == true)
        #expect(message(#"{ "evn": "A" }"#)?.contains(#"unknown field "evn""#) == true)
        #expect(message(#"{ "env": 1 }"#)?.hasPrefix("config.wrong_type") == true)
        #expect(message("1")?.hasPrefix("config.wrong_type") == true)
        #expect(message(#""""#) == #"config.empty: "url" is empty"#)
        #expect(
            message(#"{ "credential": "../x" }"#)?.contains("not a name of a credential") == true)
        #expect(message(#"{ "env": "1A" }"#)?.contains("not a name of an environment") == true)
    }

    @Test func aRealFileIsReadAndADirectoryIsNot() {
        let path = "/tmp/weir-config-test-\(getpid())"
        _ = unsafe fopen(path, "w").map { unsafe fclose($0) }
        defer { unsafe unlink(path) }
        #expect(message(#"{ "file": "\#(path)" }"#, .process)?.hasSuffix("is empty") == true)
        #expect(message(#"{ "file": "/tmp" }"#, .process)?.hasSuffix("not a regular file") == true)
        #expect(
            message(#"{ "file": "/dev/zero" }"#, .process)?.hasSuffix("not a regular file") == true)
        #expect(message(#"{ "env": "WEIR_NOT_SET" }"#, .process)?.hasSuffix("is not set") == true)
        let outcome = loader.load(path: path)
        #expect(outcome.errors.map(\.code) == [ConfigErrorCode.syntax])
    }

    // MARK: Literal passwords

    @Test func aLiteralPasswordIsAdvisedAgainst() {
        let (secret, outcome) = url(#""shop://me:canary@h/d""#, .fake())
        #expect(secret?.reveal() == "shop://me:canary@h/d")
        #expect(
            outcome.rendered() == """
                weir.json:2:55: warning config.literal_password: "url" holds a password
                    2 |   "connections": { "shop": { "type": "shopdb", "url": *** } },
                      |                                                       ^^^
                      |                                              better { "env": "NAME" } or { "file": "/path" }

                """)
        for text in ["shop://h/d?password=canary", "shop://:canary@h"] {
            let codes = url("\"\(text)\"", .fake()).outcome.warnings.map(\.code)
            #expect(codes == [ConfigErrorCode.literalPassword], "\(text)")
        }
        for text in ["shop://h/d", "shop://me@h/d", "shop://h:5432/d?user=x@y"] {
            #expect(url("\"\(text)\"", .fake()).outcome.warnings.isEmpty, "\(text)")
        }
    }

    @Test func othersMayNotReadAFileWithAPassword() {
        let literal = #""shop://me:canary@h/d""#
        for mode: UInt32 in [0o100644, 0o100640, 0o100604] {
            let codes = url(literal, .fake(), fileMode: mode).outcome.warnings.map(\.code)
            #expect(codes.contains(ConfigErrorCode.readableByOthers))
        }
        let own = url(literal, .fake(), fileMode: 0o100600).outcome
        #expect(!own.warnings.map(\.code).contains(ConfigErrorCode.readableByOthers))
        let environment = ConfigEnvironment.fake(["A": "shop://me:canary@h/d"])
        #expect(url(#"{ "env": "A" }"#, environment, fileMode: 0o644).outcome.warnings.isEmpty)
    }

    @Test(
        arguments: [
            (0o600, false), (0o640, false), (0o440, false), (0o644, true), (0o604, true),
        ] as [(mode_t, Bool)])
    func everybodyMayNotReadAFileOfASecret(mode: mode_t, isWarnedOf: Bool) throws {
        let path = "/tmp/weir-config-secret-\(getpid())-\(mode)"
        try "shop://me:canary@h/d".write(toFile: path, atomically: false, encoding: .utf8)
        defer { unsafe unlink(path) }
        unsafe chmod(path, mode)
        let (secret, outcome) = url(#"{ "file": "\#(path)" }"#, .process)
        #expect(secret?.reveal() == "shop://me:canary@h/d")
        let codes = outcome.warnings.map(\.code)
        #expect(codes == (isWarnedOf ? [ConfigErrorCode.readableByOthers] : []))
        #expect(!outcome.rendered().contains("canary"))
    }

    /// A mount of secrets for reading only has rights that no command here changes.
    @Test func rightsThatCannotBeChangedAreNotWarnedOf() {
        for isReadOnly in [true, false] {
            let environment = ConfigEnvironment(
                variable: { _ in nil },
                readFile: { _ in .success(Array("shop://me:canary@h/d".utf8)) },
                fileRights: { _ in .init(mode: 0o100644, isReadOnly: isReadOnly) })
            let outcome = url(#"{ "file": "/run/secrets/shop" }"#, environment).outcome
            let codes = outcome.warnings.map(\.code)
            #expect(codes == (isReadOnly ? [] : [ConfigErrorCode.readableByOthers]))
            #expect(outcome.rendered().contains("defaultMode: 0440") == !isReadOnly)
            #expect(outcome.rendered(showsRights: false).isEmpty)
        }
    }

    @Test func aURLWhereANameBelongsKeepsItsPassword() {
        let text = file(
            source: #""connection": "shop://me:canary@h", "tables": "shop://me:canary@h""#,
            sink:
                #""type": "lines", "path": "a", "format": "x://me:canary@h", "tables": "x://a:canary@b""#
        )
        #expect(!report(text).contains("canary"), "\(report(text))")
        #expect(report(text).contains(#"unknown connection "shop://me:***@h""#))
    }

    @Test(arguments: [
        // Right but for something else on the line; misspelt, misplaced and doubled secrets.
        #""type": "shopdb", "url": "shop://me:canary@h/d", "x": 1"#,
        #""type": "shopdb", "url": "canary", "password": "canary""#,
        #""type": "bus", "url": "x", "pasword": "canary""#,
        #""type": "bus", "url": "x", "passphrase": ["canary"]"#,
        #""type": "bus", "url": "x", "password": "a", "password": "canary""#,
        #""type": "bus", "url": "x", "password": ["canary"]"#,
        #""type": "bus", "url": "x", "password": { "env": "!canary" }"#,
        #""type": "bus", "url": "x", "password": { "text": "canary" }"#,
        #""type": "bus", "url": { "file": "bus://me:canary@h" }"#,
        #""type": "bus", "url": { "credential": "x/canary" }"#,
        #""type": "bus://me:canary@h", "url": "x""#,
        #""type": "bsu", "url": "canary""#,
        #""url": "canary""#,
        // No JSON at all.
        #""type": "bus", "url": "bus://me:canary@h" "x""#,
        #""type": "bus", "url": "bus://me:can"canary@h","#,
        #""type": "bus", "password": canary"#,
        #""type": "bus", "password": "canary"#,
        #""type": "bus", "password": 12canary"#,
        #""type": "bus", "url": "host=x password=canary" "x""#,
    ])
    func noSecretIsEverShown(_ connection: String) {
        for sink in [#""type": "lines", "path": "a""#, #""connection": "shop", "topic": "t""#] {
            let outcome = check(file(connection: connection, sink: sink))
            let shown =
                outcome.rendered()
                + outcome.diagnostics.map { "\($0.message) \($0.note ?? "")" }.joined()
            #expect(!shown.contains("canary"), "\(shown)")
            #expect(!outcome.diagnostics.isEmpty)
        }
    }
}
