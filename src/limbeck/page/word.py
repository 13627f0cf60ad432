"""The page's own words, in English and Chinese. What comes from the report itself is never translated."""

from __future__ import annotations

import re
from dataclasses import dataclass

WORDS: dict[str, tuple[str, str]] = {
    # roles
    "teacher": ("teacher", "教师"),
    "student": ("student", "学生"),
    "scratch": ("scratch", "独立学生"),
    "trivial": ("trivial", "简单基线"),
    "tuned": ("tuned", "已调参"),
    "given": ("given settings", "指定参数"),
    # headings
    "compare": ("Runs side by side", "多次运行对比"),
    "verdict": ("Verdict", "结论"),
    "protocol": ("Protocol", "评估方案"),
    "table": ("Who did how well, and at what cost", "效果与成本"),
    "metrics": ("Every metric", "全部指标"),
    "comparisons": ("Did the teacher help?", "教师是否有帮助？"),
    "curves": ("Learning", "学习过程"),
    "tradeoffs": ("What quality costs", "质量的代价"),
    "tuning": ("What the search found", "搜索结果"),
    "slices": ("Slices", "分组结果"),
    "reliability": ("Can its probabilities be believed?", "概率是否可信？"),
    "rows": ("Where they disagree", "分歧最大的样本"),
    "robustness": ("What attacks and bad pictures do", "攻击与劣质图片的影响"),
    "robustness_how": ("What was done to the pictures", "对图片做了什么"),
    "artifacts": ("What can be deployed", "可部署的产物"),
    "facts": ("Facts", "事实"),
    "glossary": ("What the words mean", "术语解释"),
    "numbers": ("The numbers behind the charts", "图表数据"),
    # columns
    "model": ("model", "模型"),
    "interval": ("95% CI", "95% 置信区间"),
    "parameters": ("parameters", "参数量"),
    "size": ("size", "大小"),
    "precision": ("precision", "精度"),
    "p50": ("p50", "p50 延迟"),
    "p95": ("p95", "p95 延迟"),
    "encode": ("encoding", "编码耗时"),
    "rows_per_second": ("rows/s", "行/秒"),
    "train_seconds": ("training", "训练时间"),
    "difference": ("difference", "差值"),
    "p_value": ("p value", "p 值"),
    "retention": ("retention", "保留率"),
    "lift_retention": ("lift retention", "提升保留率"),
    "transfer_ratio": ("transfer ratio", "迁移率"),
    "agreement": ("agreement", "一致率"),
    "settings": ("settings", "参数"),
    "fits": ("within the budget", "符合预算"),
    "trial": ("trial", "试验"),
    "trials": ("trials", "试验次数"),
    "pruned": ("given up early", "提前放弃"),
    "failed": ("failed", "失败"),
    "slice": ("slice", "分组"),
    "n": ("n", "样本数"),
    "confidence": ("confidence", "置信度"),
    "accuracy": ("accuracy", "准确率"),
    "ece": ("ECE", "ECE"),
    "bin": ("bin", "区间"),
    "split": ("split", "划分"),
    "seed": ("seed", "种子"),
    "splits": ("splits", "划分"),
    "seeds": ("seeds", "种子"),
    "epoch": ("epoch", "轮次"),
    "epochs": ("epochs", "轮数"),
    "best_epoch": ("best epoch", "最佳轮次"),
    "best_validation": ("validation at best", "最佳验证值"),
    "final_loss": ("last terms", "最终各项损失"),
    "validation": ("validation", "验证集"),
    "terms": ("terms of the loss", "损失各项"),
    "gradients": ("lengths of gradients", "梯度长度"),
    "gradients_title": ("Lengths of gradients", "梯度长度"),
    "final_gradient": ("last gradients", "最终梯度长度"),
    "path": ("path", "路径"),
    "fact": ("fact", "项目"),
    "value": ("value", "值"),
    "step": ("step", "步骤"),
    "time": ("time", "耗时"),
    "run": ("run", "运行"),
    "task": ("task", "任务"),
    "threads": ("threads", "线程数"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "best": ("best", "最佳"),
    "clean": ("clean", "原图"),
    "severity": ("severity", "严重程度"),
    "radius_of_255": ("how far a pixel may be moved, of 255", "像素可改动的幅度（满分 255）"),
    "latency": ("latency p50, one batch", "单批 p50 延迟"),
    "latency_title": ("Quality against latency", "质量与延迟"),
    "size_title": ("Quality against size", "质量与大小"),
    "front_title": ("The front: validation rows, against size", "前沿：验证集质量与大小"),
    "no_limit": ("no limit", "无限制"),
    "scratch_better": ("◂ scratch better", "◂ 独立学生更好"),
    "student_better": ("student better ▸", "学生更好 ▸"),
    "scratch_better_right": ("scratch better ▸", "独立学生更好 ▸"),
    "student_better_left": ("◂ student better", "◂ 学生更好"),
    # tiles
    "kept": ("kept of the teacher", "保留教师效果"),
    "kept_note": ("lift kept: {lift}", "提升保留：{lift}"),
    "kept_above": ("of what is above chance, {chance}", "以随机水平 {chance} 为起点"),
    "p50_title": ("latency", "延迟"),
    "smaller": ("smaller", "更小"),
    "larger": ("larger", "更大"),
    "as_large": ("as large", "一样大"),
    "faster": ("faster", "更快"),
    "slower": ("slower", "更慢"),
    "as_fast": ("as fast", "一样快"),
    "from_to": ("{before} → {after}", "{before} → {after}"),
    "cost": (
        "Beside the teacher, {student} is {size} {larger} and {speed} {slower}.",
        "与教师相比，{student} {size} {larger}，{speed} {slower}。",
    ),
    # one line each
    "higher": ("higher is better", "越高越好"),
    "lower": ("lower is better", "越低越好"),
    "table_note": (
        "{metric} on test rows, {direction}: mean ± standard deviation over splits and seeds. Latency is that of one "
        "batch of {batch} on {threads} threads, encoding included.",
        "测试集上的 {metric}（{direction}）：各划分与种子的均值 ± 标准差。"
        "延迟为 {threads} 个线程上每批 {batch} 行的耗时，含编码。",
    ),
    "unsteady": (
        "Latencies are not to be relied on: p95 is up to {times} p50 ({names}), as on a machine that does other work "
        "besides, or where rows differ much in length. To measure again on a quiet one, delete steps/left and "
        "steps/speed in the run's folder and run the recipe.",
        "延迟数据不可尽信：p95 最高达 p50 的 {times}（{names}），可能是机器同时在做其他工作，或各行长度相差很大。"
        "如需在空闲的机器上重新测量，请删除运行目录中的 steps/left 和 steps/speed 后再次运行。",
    ),
    "comparisons_note": (
        "Every student against its honest twin, scratch: the same model and budget without the teacher.",
        "每个学生与其诚实的对照相比：相同的模型与预算，但没有教师。",
    ),
    "robustness_note": (
        "Accuracy on {rows} of {all} test rows of {name}, drawn at random; at 0 the pictures are as they are. Every "
        "model meets attacks made against itself. Student and twin are the trainings best on validation rows.",
        "在 {name} 的 {all} 个测试样本中随机抽取 {rows} 个的准确率；0 处为原图。每个模型面对的都是针对它自身的攻击。"
        "学生与独立学生均取验证集上最佳的一次训练。",
    ),
    "artifacts_note": (
        "Every file was judged again after export; parity is how near its answers are to the student's.",
        "每个文件导出后都重新评估；一致性表示其答案与学生模型的接近程度。",
    ),
    "tuning_note": (
        "{metric} of every exported file on validation rows. The front holds the files that no other file of their "
        "search beats in everything; those marked were trained with all seeds and judged on test rows as trained, in "
        "float32, beside the given student; the table above has the rows of their files.",
        "每个导出文件在验证集上的 {metric}。前沿上的文件不被同一搜索中的任何其他文件全面超越；"
        "有标记者以全部种子训练，并以训练时的 float32 与指定参数的学生一同在测试集上评估；其文件各自的结果见上表。",
    ),
    "tuning_best": (
        "{student} was searched for in {trials} trials, its twin in {twin}. The best within the budget ({budget}) is "
        "{name}, {bytes} as {precision}: {metric} {value} on test rows, {given} as given (p {p}).",
        "{student} 搜索了 {trials} 次试验，其对照 {twin} 次。预算（{budget}）内最佳为 {name}，{precision} 文件 "
        "{bytes}：测试集 {metric} 为 {value}，指定参数时为 {given}（p {p}）。",
    ),
    "tuning_none": (
        "The search found none: no file of the {trials} trials of {student} keeps to the budget ({budget}).",
        "未找到：{student} 的 {trials} 次试验中没有文件符合预算（{budget}）。",
    ),
    "tuning_lean": (
        "{name} is no larger than {student} as given ({bytes}, {size}) and {better} on test rows: {value} against "
        "{given} (p {p}).",
        "{name} 不大于指定参数的 {student}（{bytes}，{size}），，测试集上{better}：{value} 对 {given}（p {p}）。",
    ),
    "surely_better": ("better", "更好"),
    "perhaps_better": ("no worse, though not proven better,", "不差，但未证明更好"),
    "tuning_lean_worse": (
        "The search found none that is no larger than {student} as given ({size}) and better on test rows: the best of "
        "that size, {name}, has {value} against {given}.",
        "未找到不大于指定参数的 {student}（{size}）且在测试集上更好的学生：该大小中最佳的 {name} 为 {value}，"
        "对 {given}。",
    ),
    "tuning_lean_none": (
        "The search found none that is no larger than {student} as given ({size}) and keeps to the budget.",
        "未找到不大于指定参数的 {student}（{size}）且符合预算的学生。",
    ),
    "slices_more": ("Slices by other metrics", "按其他指标的分组结果"),
    "slices_note": ("{metric} per group of test rows.", "测试集各组的 {metric}。"),
    "reliability_note": (
        "On the diagonal, what is said with 80% confidence is right 80% of the time.",
        "位于对角线上表示：置信度为 80% 的判断有 80% 是对的。",
    ),
    "curves_note": (
        "{metric} on validation rows by epoch; the dot is the epoch that was kept.",
        "各轮次在验证集上的 {metric}；圆点为所选轮次。",
    ),
    "tradeoffs_note": ("Up and to the left is better.", "越靠左上越好。"),
    "tradeoffs_note_lower": ("Down and to the left is better.", "越靠左下越好。"),
    "gate_passed": (
        "The teacher passed the gate: {metric} {teacher} on validation rows, against {baseline} of {name}.",
        "教师通过检验：验证集 {metric} 为 {teacher}，基线 {name} 为 {baseline}。",
    ),
    "gate_refused": (
        "The teacher failed the gate: {metric} {teacher} on validation rows, against {baseline} of {name}.",
        "教师未通过检验：验证集 {metric} 为 {teacher}，基线 {name} 为 {baseline}。",
    ),
    "overridden": ("The run was told to go on.", "本次运行被要求继续。"),
    "means_teacher": ("the large model that is learnt from", "被学习的大模型"),
    "means_student": ("the small model, taught by the teacher", "由教师指导的小模型"),
    "means_scratch": (
        "the honest twin: the same small model with the same labelled rows, steps, trials and search space, without "
        "the teacher; at equal settings even its first weights and the order of rows are equal",
        "诚实的对照：相同的小模型，使用相同的有标签数据、步数、试验次数与搜索空间，但没有教师；"
        "设置相同时，初始权重与数据顺序也相同",
    ),
    "means_trivial": ("what anyone could do in an afternoon", "任何人半天就能做出的基线"),
    "means_difference": (
        "student less scratch, paired over users, rows or series",
        "学生减独立学生，按用户、行或序列配对",
    ),
    "means_interval": (
        "the range that holds the true value in 95 of 100 such runs; if it spans zero, the help is not proven",
        "100 次同样实验中约 95 次包含真值的范围；若跨过零，则帮助未被证实",
    ),
    "means_p_value": (
        "how often chance alone would show a difference this large",
        "仅凭偶然出现如此大差值的概率",
    ),
    "means_retention": (
        "student ÷ teacher (teacher ÷ student for errors)",
        "学生 ÷ 教师（误差类指标为教师 ÷ 学生）",
    ),
    "means_lift_retention": (
        "the same, counted from the trivial baseline (from chance for AUC)",
        "同上，但以简单基线（AUC 以随机水平）为起点",
    ),
    "means_transfer_ratio": (
        "the part of the gap from scratch to teacher that teaching closed",
        "教学弥补的独立学生与教师之间差距的比例",
    ),
    "means_agreement": (
        "how often student and teacher give the same answer, right or wrong",
        "学生与教师答案一致的比例，无论对错",
    ),
    # the browser of rows
    "rows_note": (
        "Test rows on which teacher and student differ most. Columns only the teacher may see are masked.",
        "教师与学生差异最大的测试样本。仅教师可见的列已被遮盖。",
    ),
    "search": ("Search", "搜索"),
    "show": ("Show", "显示"),
    "sort": ("Sort by", "排序"),
    "any": ("all", "全部"),
    "all": ("all rows", "全部"),
    "lost": ("teacher right, student wrong", "教师对，学生错"),
    "gained": ("student right, teacher wrong", "学生对，教师错"),
    "both_wrong": ("both wrong", "都错"),
    "differ": ("answers differ", "答案不同"),
    "disagreement": ("disagreement", "分歧"),
    "teacher_p": ("teacher's confidence", "教师置信度"),
    "student_p": ("student's confidence", "学生置信度"),
    "id": ("row id", "行号"),
    "descending": ("largest first", "从大到小"),
    "ascending": ("smallest first", "从小到大"),
    "previous": ("Previous", "上一页"),
    "next": ("Next", "下一页"),
    "status": ("{shown} of {total} rows, page {page} of {pages}", "{total} 行中的 {shown} 行，第 {page}/{pages} 页"),
    "none": ("No row matches.", "没有匹配的行。"),
    "more": ("show all", "展开"),
    "truth": ("truth", "真值"),
    "needs_script": ("The browser of rows needs JavaScript.", "样本浏览需要 JavaScript。"),
    "keys": ("Arrow keys turn the page while the list has the focus.", "列表获得焦点时，可用方向键翻页。"),
    "language": ("Language", "语言"),
    "contents": ("Contents", "目录"),
    "compare_note": (
        "{metric}, {direction}. The best student is marked; so are the smallest and the fastest.",
        "{metric}（{direction}）。最佳、最小与最快的学生已标出。",
    ),
}


@dataclass(frozen=True)
class Word:
    """One of the page's own words, or a sentence with values in its {places}."""

    key: str
    values: tuple[tuple[str, str | Word], ...] = ()

    def __post_init__(self) -> None:
        if self.key not in WORDS:
            raise KeyError(self.key)

    def say(self, language: int = 0) -> str:
        """In English (0) or Chinese (1).

        >>> Word("kept_note", (("lift", "88%"),)).say()
        'lift kept: 88%'
        """
        values = {name: v if isinstance(v, str) else v.say(language) for name, v in self.values}
        return re.sub(r"\{(\w+)\}", lambda place: values.get(place[1], place[0]), WORDS[self.key][language])


def say(key: str, **values: str | Word) -> Word:
    """A sentence with its values."""
    return Word(key, tuple(values.items()))


Text = str | Word | tuple["str | Word", ...]
"""What may stand in a cell, a heading or a label: raw text, a word, or several of them."""


def english(text: Text) -> str:
    """The text as one English string, its pieces apart by spaces."""
    if isinstance(text, tuple):
        return " ".join(english(piece) for piece in text if piece)
    return text.say() if isinstance(text, Word) else text
