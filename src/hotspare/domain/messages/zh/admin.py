"""数据库，以及它的备份、恢复、迁移和重建。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "store.url": Text(
        "数据库地址不正确：{why}。",
        "例如 postgresql://user@host/name；密码来自 PGPASSFILE、PGPASSWORD 或 --database-file。"),
    "store.unavailable": Text(
        "连接不上数据库，或连接被它断开：{detail}。",
        "请检查 PostgreSQL 的状态。正在运行的任务会继续，数据库恢复后再保存结果。"),
    "store.shared": Text("另一台控制机正在使用该数据库。",
                         "请先停止它，无论它在哪台主机上：一个数据库只能由一台控制机使用。"),
    "store.busy": Text("数据库的所有连接都在使用中。", "请稍后重试。"),
    "store.full": Text("数据库所在的文件系统已满：{detail}。",
                       "请在那里释放空间。已保存的内容没有丢失。"),
    "store.trouble": Text(
        "数据库文件现在不能使用：{detail}。",
        "请检查它所在的文件系统、它的权限，以及还有什么程序打开了它：hotspare doctor"),
    "store.file": Text("不能建立数据库文件 {path}：{why}。", "请检查该目录及其权限。"),
    "store.value": Text("数据库不接受某个值：{detail}。", "请缩短它，或去掉其中不常见的字符。"),
    "store.password-in-url": Text(
        "命令行上的地址含有密码，本机的所有用户都能读到。",
        "请把地址写入文件（--database-file），或把密码放入 ~/.pgpass、PGPASSFILE 或 PGPASSWORD。"),
    "store.moved": Text(
        "此数据库已于 {when} 停用：全部内容现在位于 {to}。",
        "请用 --database 启动。若要回到这里，请用 --force 恢复它的备份。"),
    "dump.format": Text("本版本不认识生成该备份的版本。", "请用生成它的版本恢复，然后再升级。"),
    "dump.incomplete": Text("读到的行与写入的行不一致。", "没有作任何改动。请换一个备份。"),
    "dump.row": Text("数据库不接受表 {table} 的某一行：{detail}。",
                     "没有作任何改动。请附上此消息报告问题。"),
    "backup.exists": Text("文件 {path} 已经存在。", "请换一个名称，或加上 --force。"),
    "backup.file": Text("不能读写文件 {path}：{why}。"),
    "backup.format": Text("该文件不是 Hotspare 的备份。"),
    "backup.passphrase": Text("口令不正确，或文件已损坏。"),
    "backup.passphrase-short": Text("口令太短。", "请至少使用 {smallest} 个字符。"),
    "backup.damaged": Text("备份已损坏或不完整。", "没有作任何改动。请换一个备份。"),
    "care.no-database": Text("{path} 中没有数据库，或数据库是空的。",
                             "请用 --state-dir 指定状态目录，或用 --database 指定数据库。"),
    "care.damaged": Text("数据库不能使用：{detail}。",
                         "请把它移走（hotspare.db 连同 -wal 和 -shm），再恢复备份。"),
    "restore.not-empty": Text("数据库中已有内容。", "若要全部替换，请加上 --force。"),
    "restore.in-use": Text("有控制机正在使用该数据库。", "请先停止它，无论它在哪台主机上。"),
    "migrate.same": Text("这就是正在使用的数据库。", "请指定另一个。"),
    "task.restored": Text("数据库是从备份恢复的，而备份生成时该任务正在运行。",
                          "它留下的内容由下一次运行发现并清理。"),
    "rebuild.key-wrong": Text(
        "{count} 个副本中没有一个是用这台控制机的密钥写入的。",
        "请从备份中取回 secret.key（hotspare admin restore），然后重新执行。也可能它们属于另一套 "
        "Hotspare。"),
    "rebuild.storage-skipped": Text("不能读取存储 {storage}：{reason}。",
                                    "请恢复该存储后重新执行。"),
    "rebuild.deleted": Text("删除规则 {rule} 时保留了它的副本。"),
    "rebuild.unreadable": Text("不能读取存储 {storage} 中规则 {rule} 的副本（{error}）：{detail}"),
    "rebuild.empty": Text("规则 {rule} 的副本没有恢复点。"),
    "rebuild.third": Text(
        "规则 {rule} 的副本是虚机 {vm} 的又一个副本，该虚机由 {other} 保护。没有为它建立规则。",
        "请先删除该虚机较旧的规则，然后重新执行。"),
    "rebuild.made": Text(
        "规则由目标端的 {points} 个恢复点重建。其计划、限制和网络不得而知：规则处于停止状态，"
        "这些设置为默认值。",
        "请检查它的设置，然后启动。"),
    "rebuild.no-source": Text("已注册的平台上都没有虚机 {vm}。可以切换，但不能复制。",
                              "请注册源平台并刷新，然后再次重建。"),
    "rebuild.twice": Text(
        "虚机 {vm} 由规则 {other} 保护，其副本更新。可以切换到本规则的副本，但不能复制。",
        "若不需要，请删除本规则。"),
    "rebuild.elsewhere": Text("存储 {storage} 中有该规则副本的拷贝；没有采用它。"),
    "rebuild.busy": Text("规则有任务正在进行，因此没有读取它的副本。",
                         "请在任务结束后再次执行 hotspare admin rebuild。"),
    "rebuild.adopted": Text("目标端的恢复点比数据库中的新：是 {found}，而不是 {known}。"),
    "rebuild.standing": Text("副本正以 {name} 的名称在恢复点 {point} 上运行。"),
    "rebuild.source-found": Text("该虚机位于平台 {platform}。"),
    "rebuild.unknown-source": Text("不知道这些规则的虚机在哪里。",
                                   "请注册源平台并刷新，然后再次重建目标平台。"),
}
