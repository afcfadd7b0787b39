import Foundation
import Glibc
import Testing
import WeirCore
import WeirFiles
import WeirTesting

@testable import WeirEngine

@Suite(.timeLimit(.minutes(1))) struct StateDirectoryTests {
    private let folder: TemporaryDirectory
    private var directory: StateDirectory { StateDirectory(folder.file("state")) }
    init() throws { folder = try TemporaryDirectory() }

    @Test func aSecondLockIsRefusedWithThePid() throws {
        try directory.create()
        #expect(directory.runningPID() == nil)
        let lock = try directory.lock()
        #expect(directory.runningPID() == getpid())
        #expect {
            let second = try directory.lock()
            _ = consume second
        } throws: { error in
            guard let error = error as? WeirError else { return false }
            return error.code.name == "state.locked" && error.disposition == .blocked
                && error.message.contains("(pid \(getpid()))")
                && error.hint?.contains("weir stop") == true
        }
        _ = consume lock
        #expect(directory.runningPID() == nil)
        let again = try directory.lock()
        _ = consume again
    }

    @Test func theFolderIsForItsOwnerAlone() throws {
        let mask = umask(0)
        defer { umask(mask) }
        try directory.create()
        for name in ["", "/spill"] {
            let facts = try FileManager.default.attributesOfItem(atPath: directory.path + name)
            #expect((facts[.posixPermissions] as? Int) == 0o700)
        }
        let lock = try directory.lock()
        let facts = try FileManager.default.attributesOfItem(atPath: directory.lockPath)
        #expect((facts[.posixPermissions] as? Int) == 0o600)
        _ = consume lock
    }

    @Test(arguments: [("", true), ("x", false), ("xxxx", false)])
    func aPathTooLongForASocketIsRefused(more: String, isTaken: Bool) throws {
        let room = 103 - folder.path.utf8.count - "//weir.sock".utf8.count
        let directory = StateDirectory(
            folder.file(String(repeating: "x", count: room) + more))
        #expect(directory.socketPath.utf8.count == 103 + more.utf8.count)
        if isTaken {
            try directory.create()
        } else {
            #expect { try directory.create() } throws: {
                ($0 as? WeirError)?.message.contains("longer than the 103 bytes") == true
            }
        }
    }

    @Test func aFolderThatOthersMayWriteToIsRefusedAndTheHintMendsIt() throws {
        try directory.create()
        for name in ["", "/spill"] {
            let path = directory.path + name
            unsafe chmod(path, 0o707)
            let error = try #require(
                #expect(throws: WeirError.self) { try directory.create() })
            #expect(error.disposition == .blocked && error.message.contains("mode 0707"))
            let command = try #require(error.hint?.firstRange(of: "chmod"))
            let hint = try #require(error.hint)
            let result = try runProcess("/bin/sh", ["-c", String(hint[command.lowerBound...])])
            #expect(result.status == .exited(0))
            try directory.create()
        }
        // Only readable, it is closed.
        unsafe chmod(directory.path, 0o755)
        try directory.create()
        let facts = try FileManager.default.attributesOfItem(atPath: directory.path)
        #expect((facts[.posixPermissions] as? Int) == 0o700)
    }

    /// As Kubernetes makes a volume with an `fsGroup`: of a group that only this container has.
    @Test(.enabled(if: geteuid() == 0)) func aGroupWithoutOtherMembersMayWrite() throws {
        try directory.create()
        for (group, isTaken) in [(61_234, true), (65_534, false)] as [(gid_t, Bool)] {
            unsafe chown(directory.path, 0, group)
            unsafe chmod(directory.path, 0o2775)
            guard isTaken else {
                let error = try #require(
                    #expect(throws: WeirError.self) { try directory.create() })
                #expect(error.message.contains("others may write"))
                continue
            }
            try directory.create()
            let facts = try FileManager.default.attributesOfItem(atPath: directory.path)
            #expect((facts[.posixPermissions] as? Int).map { $0 & 0o777 } == 0o700)
        }
    }

    @Test func whoMayWriteDecides() {
        let cases: [(owner: uid_t, mode: mode_t, isGroupOurs: Bool, isTaken: Bool)] = [
            (1000, 0o700, false, true), (1000, 0o755, false, true), (0, 0o2775, true, true),
            (0, 0o2770, false, false), (0, 0o1777, true, false), (1001, 0o700, true, false),
            (1000, 0o775, true, true), (1000, 0o775, false, false),
        ]
        for (owner, mode, isGroupOurs, isTaken) in cases {
            let rights = FolderRights(owner: owner, mode: mode, isGroupOurs: isGroupOurs)
            let isFine = (try? rights.check("/s", user: 1000)) != nil
            #expect(isFine == isTaken, "\(owner) \(mode)")
        }
    }

    /// A network file system that has less than nothing left, and sizes beyond any file.
    @Test func spaceBeyondAllNumbersIsNoTrap() {
        #expect(FileDescriptor.bytes(blocks: 3, of: 4096) == 12_288)
        #expect(FileDescriptor.bytes(blocks: UInt64(bitPattern: -5), of: 4096) == 0)
        #expect(FileDescriptor.bytes(blocks: 1 << 62, of: 4096) == .max)
        #expect(FileDescriptor.bytes(blocks: 1 << 62, of: 2) == .max)
    }

    @Test(.enabled(if: geteuid() == 0)) func aFolderOfAnotherUserIsRefused() throws {
        try directory.create()
        unsafe chown(directory.path, 65_534, 65_534)
        let error = try #require(#expect(throws: WeirError.self) { try directory.create() })
        #expect(error.disposition == .blocked)
        #expect(error.message.contains("belongs to user 65534, and Weir runs as user 0"))
    }

    /// What stands in the file is trusted only as far as its owner could have sent the signal.
    @Test(.enabled(if: geteuid() == 0), arguments: ["-1", "0", "1", "", "x", "99999999999"])
    func aPidThatMeansManyOrNoneIsNoTarget(text: String) throws {
        try directory.create()
        let lock = try directory.lock()
        try folder.write(text + "\n", to: "state/weir.pid")
        #expect(directory.runningPID() == nil)
        #expect { try directory.signalTarget() } throws: {
            ($0 as? WeirError)?.hint?.contains("fuser \(directory.lockPath)") == true
        }
        _ = consume lock
        #expect(try directory.signalTarget() == nil)
    }

    @Test(.enabled(if: geteuid() == 0)) func aPidOfAnotherUserIsNoTarget() throws {
        try directory.create()
        let lock = try directory.lock()
        #expect(try directory.signalTarget() == getpid())
        unsafe chown(directory.lockPath, 65_534, 65_534)
        #expect(directory.runningPID() == nil)
        #expect(throws: WeirError.self) { try directory.signalTarget() }
        _ = consume lock
    }

    @Test func aLockFileThatIsALinkIsNotFollowed() throws {
        try directory.create()
        try folder.write("precious", to: "other")
        try FileManager.default.createSymbolicLink(
            atPath: directory.lockPath, withDestinationPath: folder.file("other"))
        #expect(throws: WeirError.self) {
            let lock = try directory.lock()
            _ = consume lock
        }
        #expect(try String(contentsOfFile: folder.file("other"), encoding: .utf8) == "precious")
    }

    @Test func aPlainFileInThePlaceOfTheFolderIsRefused() throws {
        try folder.write("", to: "state")
        #expect(throws: WeirError.self) { try directory.create() }
    }
}
